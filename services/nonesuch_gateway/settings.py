"""The gateway's settings: one frozen model, read once, passed to `create_app`.

Environment variables: `NONESUCH_GATEWAY_` and the field's name in capitals (`NONESUCH_GATEWAY_PORT`), and those of
`nonesuch.config.RedisSettings`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from nonesuch.config import RedisSettings, validated
from nonesuch.model import Frozen, Name
from nonesuch_gateway.http.cors import ANY
from nonesuch_gateway.http.proxies import Network, is_prefix
from nonesuch_gateway.telemetry.logs import LogFormat

PREFIX = "NONESUCH_GATEWAY_"
SHORT_COMMANDS = 64
"""How many connections to Redis there are beside those of the requests that mint."""
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")  # in lower case, as browsers send it


class GatewaySettings(Frozen):
    """The gateway's settings: where it listens and what it allows one request, and all of them together, to take."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    """The port to listen on; 0 stands for any free one."""
    redis: RedisSettings = RedisSettings()
    tls_certificate: Path | None = None
    """The gateway's certificate (PEM), and those between it and the root. With it, HTTPS and nothing else."""
    tls_key: Path | None = None
    """The certificate's private key (PEM), without a passphrase."""
    tokens: Path | None = None
    """The file of tokens that `nonesuch token` writes. Without one nobody is asked for a token."""
    allow_anonymous: bool = False
    """Whether a gateway without tokens may listen where other machines reach it."""
    root_path: str = ""
    """The prefix that a proxy strips from paths, as in `/nonesuch`; what answers name begins with it."""
    trusted_proxies: tuple[Network, ...] = ()
    """Addresses and networks of proxies whose `X-Forwarded-Prefix` goes before `root_path`, and whose `X-Forwarded-For`
    says whom a request counts for. Of nobody else are they read. Separated by commas in the environment, as are
    `cors_origins`."""
    cors_origins: tuple[str, ...] = ()
    """Origins (`https://host:port`, or `*` for any) whose pages may read answers in a browser; by default none."""

    default_generator: Name = "fashion-mnist"
    """The generator of a request that names none while several are hosted."""
    max_count: int = Field(default=100_000, ge=1, le=10_000_000)
    """How many images one request may ask for."""
    max_body_bytes: int = Field(default=2**20, ge=1024)
    """How many bytes the body of a request may have, but for snapshots."""
    max_snapshot_bytes: int = Field(default=256 * 2**20, ge=1024)
    """How many bytes one published snapshot may have."""
    max_uploads: int = Field(default=2, ge=1)
    """Snapshots that are received at the same time, each in memory until it is published; the next one gets 429."""
    default_deadline_s: float = Field(default=120.0, gt=0)
    """Seconds from the request to its last image, when the request does not say."""
    max_deadline_s: float = Field(default=3600.0, gt=0)

    max_streams: int = Field(default=128, ge=1)
    """Requests that mint at the same time; the next one gets 429. Each takes one Redis connection while it waits; with
    64 more, for all that is short, they are as many as the gateway has at most."""
    max_reply_bytes: int = Field(default=512 * 2**20, ge=1)
    """Bytes that the rings of all replies together may take of Redis, and at worst of the gateway; beyond it 429."""
    reply_slots: int = Field(default=8, ge=1, le=256)
    """Tickets of one request that workers may have finished or in the making, of 4 MiB at most."""
    reply_ttl_s: float = Field(default=30.0, gt=0)
    """How many seconds a reply outlives a gateway that was killed."""
    buffer_bytes: int = Field(default=8 * 2**20, ge=0)
    """An answer of at most so many bytes is sent when it is whole, with length and digest. Each of `max_streams` may
    hold as much."""
    max_order_count: int = Field(default=1_000_000, ge=1, le=10_000_000)
    """How many images one order of /v1/orders may ask for."""
    max_order_deadline_s: float = Field(default=86_400.0, gt=0)
    """Seconds from an order of /v1/orders to its last image at most, also when the order does not say."""
    order_bytes: int = Field(default=32 * 2**20, ge=1)
    """Bytes that the ring of one order of /v1/orders may take of Redis; workers wait while it is full."""
    max_orders: int = Field(default=8, ge=1)
    """How many orders of /v1/orders there are in Redis at a time; the next one gets 429."""
    order_ttl_s: float = Field(default=3600.0, gt=0)
    """How many seconds an order of /v1/orders, made or not, is kept when nobody asks about it."""

    max_watchers: int = Field(default=256, ge=1)
    """Clients that follow orders by events at the same time; the next one gets 503."""

    max_connections: int = Field(default=1024, ge=1)
    """Clients' connections at the same time; a request on the next one gets 503. Each may be a request."""
    max_connections_per_address: int = Field(default=256, ge=1)
    """Connections of one address (in IPv6 of a network of 64 bits) at the same time, and requests that a trusted proxy
    sends for one; the next one gets 429."""
    head_s: float = Field(default=10.0, gt=0)
    """How many seconds the head of a request may take, from the connection or the last answer; TLS has as many."""
    body_s: float = Field(default=30.0, gt=0)
    """How many seconds the body of a request may take, and one second more for each 16 KiB of it."""
    stall_s: float = Field(default=60.0, gt=0)
    """A client that accepts no data for so many seconds is cut off."""
    shutdown_s: int = Field(default=10, ge=1)
    """How many seconds a stopping gateway lets open requests go on; then they are cut off and their orders end."""
    drain_s: float = Field(default=0.1, ge=0)
    """How many seconds a stopping gateway answers new requests with 503 at least, so that a load balancer sees it at
    /readyz. It does so anyway while requests are open."""

    log_format: LogFormat | None = None
    """The form of log lines, text or json; unset, text on a terminal and else json."""

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return tuple(each.strip() for each in given.split(",") if each.strip()) if isinstance(given, str) else given

    @field_validator("root_path")
    @classmethod
    def _is_a_prefix(cls, given: str) -> str:
        prefix = given.rstrip("/")
        if not is_prefix(prefix):
            raise ValueError(f"{given!r} is no prefix of paths: give one like /nonesuch")
        return prefix

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for origin in given:
            if origin != ANY and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: give https://host, https://host:port, or * for any")
        return given

    @property
    def redis_connections(self) -> int:
        """How many connections to Redis the gateway has at most."""
        return self.max_streams + SHORT_COMMANDS

    @model_validator(mode="after")
    def _a_certificate_has_a_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ValueError(f"TLS takes a certificate and its key: {missing} is missing")
        return self

    @model_validator(mode="after")
    def _times_agree(self) -> Self:
        if self.default_deadline_s > self.max_deadline_s:
            raise ValueError(
                f"default_deadline_s {self.default_deadline_s:g} is beyond max_deadline_s {self.max_deadline_s:g}: "
                "raise the one or lower the other"
            )
        if self.drain_s > self.shutdown_s:
            raise ValueError(
                f"drain_s {self.drain_s:g} is beyond shutdown_s {self.shutdown_s}: lower the one or raise the other"
            )
        return self

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the environment. Raises `InvalidValue` that names the variables."""
        names = {field: PREFIX + field.upper() for field in cls.model_fields if field != "redis"}
        given = {field: env[name] for field, name in names.items() if env.get(name)}
        redis = RedisSettings.from_env(env)
        return validated(cls, {**given, "redis": redis}, "the environment (" + ", ".join(names[f] for f in given) + ")")
