"""How many may be here at once: connections in all and from one address, and requests that a proxy sends for one.

    connection ─► Crowd.connect ─► its requests ─► Crowded ─► the application
                     │                               ├── 429, 503: its connection is one too many
                     │                               └── 429: a trusted proxy sends too many at once for its client
                     └── closed at once: many are being refused already

A connection that is one too many stays open until its request has a head that can be answered, `REFUSED_S` at most.
Nothing of such a request reaches a route, so it costs no way to Redis.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nonesuch.errors import Busy, ServiceError, Unavailable
from nonesuch_gateway.http.problems import answer_error
from nonesuch_gateway.http.proxies import Network, address_of, client_behind, is_trusted
from nonesuch_gateway.http.shutdown import ALWAYS

REFUSED_S = 1.0
"""How many seconds a connection that is one too many has for the head of its request."""
REFUSAL = "refusal"
"""The key of a request's state that holds the error it is answered with."""


@dataclass(eq=False)
class Place:
    """The place of one connection."""

    address: str
    """The address that it counts for; "" counts for none."""
    refusal: ServiceError | None
    """What its requests are answered with, if it is one too many."""


class Crowd:
    """Counts who is here. Addresses of IPv6 count by their network of 64 bits, which one household or host has whole.

    Args:
        at_most: connections at once.
        per_address: connections of one address at once, and requests of one that a trusted proxy names.
        trusted: proxies; their connections are everybody's, so they count in all only.
        refusing: how many connections that are too many may wait for their refusal; beyond it they are closed at once.
    """

    def __init__(self, *, at_most: int, per_address: int, trusted: tuple[Network, ...], refusing: int) -> None:
        self._at_most = at_most
        self._per_address = per_address
        self._trusted = trusted
        self._refusing = refusing
        self._admitted: set[Place] = set()
        self._refused: set[Place] = set()
        self._connections: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()

    def connect(self, host: str) -> Place | None:
        """A new connection's place; None if it cannot even be refused and is to be closed."""
        address = "" if is_trusted(host, self._trusted) else household(host)
        place = Place(address, self._refusal(address))
        if place.refusal is None:
            self._admitted.add(place)
            self._connections[address] += 1
        elif len(self._refused) < self._refusing:
            self._refused.add(place)
        else:
            return None
        return place

    def disconnect(self, place: Place) -> None:
        """The connection of a place is gone."""
        self._refused.discard(place)
        if place in self._admitted:
            self._admitted.remove(place)
            _count_down(self._connections, place.address)

    @contextmanager
    def request(self, host: str | None, headers: Headers) -> Iterator[None]:
        """A request that lasts as long as the context. Raises `Busy` if a proxy sends too many for its client."""
        client = client_behind(headers, self._trusted) if host and is_trusted(host, self._trusted) else None
        if client is None:
            yield
            return
        address = household(client)
        if self._requests[address] >= self._per_address:
            raise Busy(
                f"the gateway's own limit of {self._per_address} requests of one address at once is reached: send "
                "fewer at a time"
            )
        self._requests[address] += 1
        try:
            yield
        finally:
            _count_down(self._requests, address)

    def _refusal(self, address: str) -> ServiceError | None:
        if len(self._admitted) >= self._at_most:
            return Unavailable(
                f"the gateway's own limit of {self._at_most} connections at once is reached: try again in a moment"
            )
        if address and self._connections[address] >= self._per_address:
            return Busy(
                f"the gateway's own limit of {self._per_address} connections of one address at once is reached: use "
                "fewer, or name the proxy that they come from in NONESUCH_GATEWAY_TRUSTED_PROXIES"
            )
        return None


class Crowded:
    """Middleware that answers the requests that are too many. A process that is full is not ill: `ALWAYS` pass."""

    def __init__(self, app: ASGIApp, crowd: Crowd) -> None:
        self._app = app
        self._crowd = crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        client = scope.get("client") or (None,)
        with ExitStack() as counted:
            try:
                if refusal := scope.get("state", {}).get(REFUSAL):
                    raise refusal
                counted.enter_context(self._crowd.request(client[0], Headers(scope=scope)))
            except ServiceError as error:
                await (await answer_error(Request(scope), error))(scope, receive, send)
                return
            await self._app(scope, receive, send)


def household(host: str) -> str:
    """What an address counts as: itself, or the network of 64 bits that an address of IPv6 is in."""
    address = address_of(host.partition("%")[0])
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
