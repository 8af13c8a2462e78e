"""Behind a proxy: whom it speaks for, and the prefix that it strips, below which lies what answers name.

    https://host/nonesuch/v1/batches ─► proxy ─► /v1/batches ─► Prefixed ─► Content-Location: /nonesuch/v1/batches/…

Answers name paths without scheme and host, so that the prefix is all that has to be known of a proxy.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
"""What a prefix looks like, "" for none: nothing that has a meaning of its own in a header, a page or a path."""
MAX_PREFIX = 200
FORWARDED = "X-Forwarded-Prefix"


class Prefixed:
    """Sets the prefix (`root_path`) of each request: what a trusted proxy says in `X-Forwarded-Prefix`, or the setting.

    The header of anybody else is passed over, and so is one that is no prefix, or is one of the gateway's own paths.
    """

    def __init__(self, app: ASGIApp, root_path: str, trusted: Collection[Network], taken: Collection[str]) -> None:
        """`taken` are the first segments of the gateway's own paths: below such a prefix nobody could tell whether it
        was stripped."""
        self._app = app
        self._root_path = root_path
        self._trusted = tuple(trusted)
        self._taken = frozenset(taken)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            forwarded = self._forwarded(scope)
            scope["root_path"] = self._root_path if forwarded is None else forwarded
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> str | None:
        client = scope.get("client")
        if not is_trusted(client[0] if client else "", self._trusted):
            return None
        given = Headers(scope=scope).getlist(FORWARDED)
        if len(given) != 1:  # of two proxies that speak, nobody knows which prefix is the outer one
            return None
        prefix = given[0].strip().rstrip("/")
        return prefix if is_prefix(prefix) and first_segment(prefix) not in self._taken else None


def address_of(host: str) -> Address | None:
    """The address that a text is; one of IPv4 that is written as one of IPv6 is itself. None for what is no address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # not by a socket of the internet
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # as a socket for both versions shows it
    return address


def is_trusted(host: str, trusted: Iterable[Network]) -> bool:
    """Whether an address is one of these; what is no address is not."""
    address = address_of(host)
    return address is not None and any(address in network for network in trusted)


def client_behind(headers: Headers, trusted: Collection[Network]) -> str | None:
    """Whom a trusted proxy speaks for: the last address of `X-Forwarded-For` that is no trusted proxy's own. None if
    it does not say, and for what is no address.
    """
    for part in reversed(",".join(headers.getlist("X-Forwarded-For")).split(",")):
        host = _without_port(part.strip())
        if not is_trusted(host, trusted):
            address = address_of(host)
            return None if address is None else str(address)
    return None


def _without_port(host: str) -> str:
    """The address of `1.2.3.4:80` and of `[::1]:80`, as some proxies write them."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def is_prefix(text: str) -> bool:
    """Whether a text can stand before paths."""
    return len(text) <= MAX_PREFIX and PREFIX.fullmatch(text) is not None


def first_segment(path: str) -> str:
    """The first part of a path: "v1" of "/v1/batches"; "" of "" and of "/"."""
    return path.removeprefix("/").partition("/")[0]
