"""Settings that every process shares: where Redis is and how long to wait for it.

Environment variables: `NONESUCH_REDIS_URL`, `NONESUCH_NAMESPACE`, `NONESUCH_REDIS_TIMEOUT_S`.
"""

import os
from collections.abc import Mapping
from typing import Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen

M = TypeVar("M", bound=Frozen)

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


def explain(error: ValidationError, what: str) -> str:
    """A validation error as one readable line for each problem: the field, the value, what is wrong with it."""
    lines = [f"  {'.'.join(map(str, e['loc'])) or what}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
    return f"{what} cannot be used:\n" + "\n".join(line[:300] for line in lines)


class RedisSettings(Frozen):
    """Where Redis is. `url` is redis://, rediss:// (TLS) or unix://."""

    url: str = DEFAULT_REDIS_URL
    namespace: str = "nonesuch"
    timeout_s: float = Field(default=15.0, gt=0)
    """Of one reply; longer than any slice of a blocking call (`rings.SLICE_S`)."""
    connect_timeout_s: float = Field(default=5.0, gt=0)

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return url

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
