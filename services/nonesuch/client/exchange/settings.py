"""A client's settings: where the gateway is, and who asks.

Environment variables: `NONESUCH_URL`, `NONESUCH_TOKEN`.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, field_validator

from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen

DEFAULT_URL = "http://127.0.0.1:8000"

_ENVIRONMENT = {"url": "NONESUCH_URL", "token": "NONESUCH_TOKEN"}


class ClientSettings(Frozen):
    """The settings of a client: where the gateway is, who asks, and how patiently."""

    url: Annotated[str, StringConstraints(strip_whitespace=True)] = DEFAULT_URL
    token: SecretStr | None = None
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds for a connection, for sending, and for each part of an answer; images may take their deadline longer."""
    retries: int = Field(default=3, ge=0, le=100)
    """How often a call that failed in passing is tried again."""

    @field_validator("url")
    @classmethod
    def _of_a_gateway(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be the URL of a gateway, such as http://127.0.0.1:8000")
        return url.rstrip("/")

    @classmethod
    def of(cls, given: Mapping[str, object], env: Mapping[str, str] = os.environ) -> Self:
        """What is given and not None, then the environment, then the defaults. Raises `InvalidValue`."""
        found: dict[str, object] = {field: env[name] for field, name in _ENVIRONMENT.items() if env.get(name)}
        found |= {field: value for field, value in given.items() if value is not None}
        _check_secrets(str(found.get("url", "")), str(found.get("token", "")))
        return validated(cls, found, "the client's settings")


def _check_secrets(url: str, token: str) -> None:
    """Refuse what holds or is a secret without showing it, as validation would. Raises `InvalidValue`."""
    if "@" in url:
        raise InvalidValue("the URL of a gateway holds no user and no password: give a token as `token`", field="url")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidValue("the token has characters that no token has: copy it again", field="token")
