"""Settings that every process shares: where Redis is, who we are to it, and how long to wait for it.

Environment variables: `NONESUCH_REDIS_URL`, `NONESUCH_REDIS_USERNAME`, `NONESUCH_REDIS_PASSWORD_FILE`,
`NONESUCH_REDIS_CA_FILE`, `NONESUCH_NAMESPACE`, `NONESUCH_REDIS_TIMEOUT_S`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, Self, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen

M = TypeVar("M", bound=Frozen)

SECRETS = frozenset({"url", "token", "password"})
"""Fields whose values are never shown: a URL may hold a password, in any part of it if it was not quoted."""
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"


def explain(error: ValidationError, what: str) -> str:
    """A validation error as one readable line for each problem: the field, the value, what is wrong with it. A value
    that is or may hold a secret is not shown.
    """
    lines = [
        f"  {'.'.join(map(str, e['loc'])) or what}: {e['msg']}{_given(e['loc'], e['input'])}" for e in error.errors()
    ]
    return f"{what} cannot be used:\n" + "\n".join(line[:300] for line in lines)


def _given(path: tuple[int | str, ...], value: object) -> str:
    inside = value.keys() if isinstance(value, Mapping) else ()
    return "" if SECRETS & {*path[-1:], *inside} else f" (given: {value!r})"


class _RedisPlace(NamedTuple):
    """A Redis URL, taken apart; who asks is left out."""

    scheme: str
    anonymous: bool
    """Whether the URL has neither a user nor a password."""
    where: str
    """Host and port, or the path of a socket, as in the URL."""
    database: str
    """A number, or nothing for 0."""


def _parsed(url: str) -> _RedisPlace:
    """Take a Redis URL apart. Raises `ValueError` for one that two readers could read in two ways. The message has no
    part of the URL: a password that is not quoted can end up in any part.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must start with redis://, rediss:// or unix://")
    if "#" in rest or re.search(r"\s|%(?![0-9A-Fa-f]{2})", rest):
        raise ValueError(f"has a #, a space or a single %: {_QUOTED}")
    rest, _, query = rest.partition("?")
    if rest.count("@") > 1 or "?" in query or "@" in query:
        raise ValueError(f"has a second @ or a ? before an @: {_QUOTED}")
    authority, slash, path = rest.partition("/")
    if "@" in path:
        raise ValueError(f"has a / before the @: {_QUOTED}")
    _, who, where = authority.rpartition("@")
    database = _database(query, may_have_tls=scheme == "rediss")
    if scheme == "unix":
        if where or not path:
            raise ValueError("must have the whole path of a socket after unix://, as unix:///run/redis.sock")
        return _RedisPlace(scheme, not who, slash + path, database)
    if not re.fullmatch(r"[0-9]*", path):
        raise ValueError("must end in the number of a database, as redis://127.0.0.1:6379/0; databases have no names")
    if path and database:
        raise ValueError("has the number of its database twice, after the / and after the ?: keep one")
    host = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", where)
    if host is None or not 0 < int(host[1] or 6379) <= 65_535:
        raise ValueError("must have a host, and a port from 1 to 65535 if any: redis://127.0.0.1:6379/0")
    return _RedisPlace(scheme, not who, where, path or database)


def _database(query: str, *, may_have_tls: bool) -> str:
    """The number that `?db=` gives, or nothing. Raises `ValueError` for whatever else has no business there."""
    database = ""
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name == "db" and re.fullmatch(r"[0-9]+", value):
            database = value
        elif not (may_have_tls and name in _TLS):
            raise ValueError(
                "may have ?db=NUMBER only, and options of TLS with rediss://; a password comes before an @, or in "
                "NONESUCH_REDIS_PASSWORD_FILE"
            )
    return database


_QUOTED = "in a password write %23 for #, %2F for /, %3F for ?, %40 for @ and %25 for %, or name a password_file"
_TLS = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class RedisSettings(Frozen):
    """The way to Redis. `url` is redis://, rediss:// (TLS) or unix://."""

    model_config = ConfigDict(hide_input_in_errors=True)

    url: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(default=DEFAULT_REDIS_URL, repr=False)
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
    def _read_in_one_way(cls, url: str) -> str:
        _parsed(url)
        return url

    @model_validator(mode="after")
    def _one_password_and_one_kind_of_wire(self) -> Self:
        if self.password_file is not None and not _parsed(self.url).anonymous:
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
        """The URL without user, password and options, for messages and logs."""
        found = _parsed(self.url)
        who = "" if found.anonymous else "***@"
        separator = "?db=" if found.scheme == "unix" else "/"
        return f"{found.scheme}://{who}{found.where}{found.database and separator + found.database}"

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
