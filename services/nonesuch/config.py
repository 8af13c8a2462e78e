"""Settings that every process shares: where Redis is, who we are to it, and how long to wait for it.

Environment variables: `NONESUCH_REDIS_URL`, `NONESUCH_REDIS_USERNAME`, `NONESUCH_REDIS_PASSWORD_FILE`,
`NONESUCH_REDIS_CA_FILE`, `NONESUCH_NAMESPACE`, `NONESUCH_REDIS_TIMEOUT_S`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen

M = TypeVar("M", bound=Frozen)

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


def explain(error: ValidationError, what: str) -> str:
    """A validation error as one readable line for each problem: the field, the value, what is wrong with it."""
    lines = [f"  {'.'.join(map(str, e['loc'])) or what}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
    return f"{what} cannot be used:\n" + "\n".join(line[:300] for line in lines)


class RedisSettings(Frozen):
    """The way to Redis. `url` is redis://, rediss:// (TLS) or unix://."""

    url: str = DEFAULT_REDIS_URL
    username: str | None = None
    """The user of the password in `password_file`; a password in the URL has its user there too. Unset, `default`."""
    password_file: Path | None = None
    """The file with the password, read at every connect. A URL with a password in it shows up in lists of processes."""
    ca_file: Path | None = None
    """The certificates (PEM) of who signed Redis', for rediss:// only. Unset, those that the system trusts."""
    namespace: str = "nonesuch"
    timeout_s: float = Field(default=15.0, gt=0)
    """How long one reply may take, in seconds; longer than any slice of a blocking call (`rings.SLICE_S`)."""
    connect_timeout_s: float = Field(default=5.0, gt=0)

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return url

    @model_validator(mode="after")
    def _one_password_and_one_kind_of_wire(self) -> Self:
        if self.password_file is not None and "@" in urlsplit(self.url).netloc:
            raise ValueError("there is a user or a password in the URL and a password_file: keep one of them")
        if self.username is not None and self.password_file is None:
            raise ValueError(f"the user {self.username!r} has no password_file: name one")
        if self.ca_file is not None and not self.url.startswith("rediss:"):
            raise ValueError("ca_file is for TLS: let the URL start with rediss://")
        return self

    def password(self) -> str | None:
        """What `password_file` holds now; None without one. Raises `InvalidValue` when it cannot be read."""
        if self.password_file is None:
            return None
        try:
            password = self.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidValue(
                f"the password of Redis cannot be read from {self.password_file}: {reason}. Make it with "
                "`nonesuch init`, or set NONESUCH_REDIS_PASSWORD_FILE",
                field="password_file",
            ) from None
        if not password:
            raise InvalidValue(f"the password file {self.password_file} is empty", field="password_file")
        return password

    @property
    def safe_url(self) -> str:
        """The URL without its password, for messages and logs."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        return self.url.replace(f":{parts.password}@", ":***@", 1)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises `InvalidValue` that names the variable."""
        names = {
            "url": "NONESUCH_REDIS_URL",
            "username": "NONESUCH_REDIS_USERNAME",
            "password_file": "NONESUCH_REDIS_PASSWORD_FILE",
            "ca_file": "NONESUCH_REDIS_CA_FILE",
            "namespace": "NONESUCH_NAMESPACE",
            "timeout_s": "NONESUCH_REDIS_TIMEOUT_S",
        }
        given = {field: env[name] for field, name in names.items() if env.get(name)}
        return validated(cls, given, "the environment (" + ", ".join(names[f] for f in given) + ")")


def validated(model: type[M], given: Mapping[str, object], what: str) -> M:
    """The model from values that a person gave. Raises `InvalidValue` with a line for each that cannot be used."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidValue(explain(error, what)) from None
