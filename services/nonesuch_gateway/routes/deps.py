"""What the routes share, and the aliases by which they ask for it: every dependency of FastAPI is here.

GatewayDep       the running gateway
CallerDep        who asks
OnceDep          whether the same request came before (Idempotency-Key)
PreferencesDep   what URL and headers say of the answer's format
KeptDep          the order that the path names
RootDep          what a proxy has taken off the path
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Security
from pydantic import Field, WithJsonSchema

from nonesuch.link import AsyncLink
from nonesuch_gateway.access.guard import BEARER, Caller
from nonesuch_gateway.access.idempotency import FIELD, SCHEMA, Once
from nonesuch_gateway.access.limits import Limits
from nonesuch_gateway.access.tokens import Tokens
from nonesuch_gateway.formats import CODECS, FORMATS
from nonesuch_gateway.formats.negotiation import Preferences
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.http.shutdown import Gate
from nonesuch_gateway.http.uploads import Uploads
from nonesuch_gateway.recipes.plans import order_terms
from nonesuch_gateway.replies.events import Watchers
from nonesuch_gateway.replies.large_orders import Kept, find
from nonesuch_gateway.replies.opening import Replies
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Gateway:
    """One running gateway."""

    settings: GatewaySettings
    link: AsyncLink
    replies: Replies
    uploads: Uploads
    watchers: Watchers
    metrics: Metrics
    gate: Gate
    limits: Limits
    tokens: Tokens | None
    """The tokens that let callers in; None: there are none, and everybody may do everything."""


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


async def _caller(request: Request, gateway: GatewayDep) -> Caller:
    return Caller(None if gateway.tokens is None else request.state.token)


CallerDep = Annotated[Caller, Depends(_caller)]


async def _once(
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    key: Annotated[
        Annotated[str, WithJsonSchema(SCHEMA)] | None,
        Header(
            alias=FIELD, description="Any text; the same request with the same one, while it is kept, happens once."
        ),
    ] = None,
) -> Once:
    return Once.of(gateway.link, f"{request.url.path}?{request.url.query}", caller.id, key)


OnceDep = Annotated[Once, Depends(_once)]


async def _preferences(
    request: Request,
    format: Annotated[
        Annotated[str, Field(json_schema_extra={"enum": list(FORMATS)})] | None,
        Query(description="The format of the images; goes before Accept."),
    ] = None,
    codec: Annotated[
        Annotated[str, Field(json_schema_extra={"enum": ["none", *CODECS]})] | None,
        Query(description="What compresses the buffers of Arrow; other formats have none."),
    ] = None,
) -> Preferences:
    return Preferences(", ".join(request.headers.getlist("accept")), format, codec)


PreferencesDep = Annotated[Preferences, Depends(_preferences)]


async def _kept(order_id: str, gateway: GatewayDep, caller: CallerDep) -> Kept:
    terms = order_terms(gateway.settings)
    return await gateway.link.run(find(gateway.link.keys, order_id, terms, owner=caller.confined_to))


KeptDep = Annotated[Kept, Depends(_kept)]


async def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root


RootDep = Annotated[str, Depends(_root)]


async def _watching(gateway: GatewayDep) -> AsyncIterator[None]:
    with gateway.watchers.admit():
        yield


WATCHING = Depends(_watching)
"""The dependency of a route that follows an order for as long as its client stays: only so many do at a time."""


async def _authorised(request: Request, gateway: GatewayDep, caller: CallerDep) -> None:
    """Let a request of a route pass, and count it. Raises `Forbidden` and `RateLimited`."""
    caller.check(request.method, request.scope["route"].path)
    if caller.token is not None:
        await gateway.limits.count_request(request, caller.token)


def guarding(tokens: Tokens | None) -> dict[str, Any]:
    """The keywords that `include_router` is given for routes that are not public."""
    if tokens is None:
        return {}
    return {"dependencies": [Depends(_authorised), Security(BEARER)], "responses": documented(401, 403, 429)}
