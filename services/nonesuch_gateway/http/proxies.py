"""Behind a proxy that strips a prefix: what the gateway names in its answers lies below the prefix.

    https://host/nonesuch/v1/batches ─► proxy ─► /v1/batches ─► Prefixed ─► Content-Location: /nonesuch/v1/batches/…

Answers name paths without scheme and host, so that the prefix is all that has to be known of a proxy.
"""

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

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
        if not self._trusted or not self._is_trusted(scope):
            return None
        given = Headers(scope=scope).getlist(FORWARDED)
        if len(given) != 1:  # of two proxies that speak, nobody knows which prefix is the outer one
            return None
        prefix = given[0].strip().rstrip("/")
        return prefix if is_prefix(prefix) and first_segment(prefix) not in self._taken else None

    def _is_trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:  # not by a socket of the internet
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # as a socket for both versions shows it
        return any(address in network for network in self._trusted)


def is_prefix(text: str) -> bool:
    """Whether a text can stand before paths."""
    return len(text) <= MAX_PREFIX and PREFIX.fullmatch(text) is not None


def first_segment(path: str) -> str:
    """The first part of a path: "v1" of "/v1/batches"; "" of "" and of "/"."""
    return path.removeprefix("/").partition("/")[0]
