"""The application: settings in, FastAPI out.

    client ─► RequestId ─► Observe ─► Admission ─► Crowded ─► Guard ─► BodyLimit ─► route ─► plan ─► reply ─► format
                                          │           │         │                    └────────┴───────┴─ an error ┐
                                          │           │         └── no token ─────────────────────────────────────┤
                                          │           └── too many at once ───────────────────────────────────────┤
                                          └── a gateway that stops ────────────────────────────────────► a problem ◄

Before all of it, `Prefixed` notes what a proxy has taken off the path; where pages of other origins are let in,
`Origins` stands before Admission.

Each module draws its own part: `replies.opening` what waits for workers, `replies.streams` what waits for the client.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import Depends, FastAPI
from fastapi.routing import iter_route_contexts

import nonesuch
from nonesuch.errors import InvalidValue
from nonesuch.link import AsyncLink
from nonesuch_gateway.access.guard import Guard
from nonesuch_gateway.access.limits import Limits
from nonesuch_gateway.access.tokens import Tokens
from nonesuch_gateway.document.openapi import HEADERS, TAGS, install_document
from nonesuch_gateway.http.bodies import no_large_body
from nonesuch_gateway.http.cors import Origins
from nonesuch_gateway.http.crowd import Crowd, Crowded
from nonesuch_gateway.http.middleware import BodyLimit, RequestId
from nonesuch_gateway.http.problems import install_handlers
from nonesuch_gateway.http.proxies import Prefixed, first_segment
from nonesuch_gateway.http.shutdown import Admission, Gate
from nonesuch_gateway.http.uploads import Uploads
from nonesuch_gateway.replies.events import Watchers
from nonesuch_gateway.replies.opening import Replies
from nonesuch_gateway.routes import batches, catalogue, health, metrics, orders, snapshots, stats
from nonesuch_gateway.routes.deps import Gateway, guarding
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.telemetry.metrics import Metrics
from nonesuch_gateway.telemetry.observe import Observe


class _State(TypedDict):
    gateway: Gateway


def create_app(settings: GatewaySettings, gate: Gate | None = None, crowd: Crowd | None = None) -> FastAPI:
    """The gateway as an ASGI application. It starts without Redis and answers 503 until Redis is there.

    A server that stops closes the gate, and counts its connections in the crowd; without one there is a gate that
    stays open, and a crowd that knows of requests only. Raises `InvalidValue` for a file of tokens that cannot be read,
    and for a prefix that is one of the gateway's own paths.
    """
    gate, crowd = gate or Gate(), crowd or make_crowd(settings)
    tokens = None if settings.tokens is None else Tokens(settings.tokens)
    counted = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[_State]:
        link = AsyncLink(settings.redis, connections=settings.redis_connections)
        replies = Replies(link, limit=settings.max_streams, limit_bytes=settings.max_reply_bytes)
        uploads = Uploads(limit=settings.max_uploads, stall_s=settings.stall_s)
        watchers = Watchers(limit=settings.max_watchers)
        try:
            yield {"gateway": Gateway(settings, link, replies, uploads, watchers, counted, gate, Limits(link), tokens)}
        finally:
            await replies.settled()
            await link.close()

    app = FastAPI(
        title="Nonesuch",
        summary="Labelled training images that do not exist, minted on demand",
        version=nonesuch.__version__,
        lifespan=lifespan,
        dependencies=[Depends(no_large_body)],
        openapi_tags=TAGS,
        redirect_slashes=False,  # a redirect would send clients to whatever their Host header said
    )
    larger = {f"{snapshots.PREFIX}/": settings.max_snapshot_bytes}
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, larger=larger, within_s=settings.body_s)
    if tokens is not None:
        app.add_middleware(Guard, tokens=tokens)
    app.add_middleware(Crowded, crowd=crowd)
    app.add_middleware(Admission, gate=gate)
    if settings.cors_origins:
        app.add_middleware(Origins, origins=settings.cors_origins, exposed=HEADERS)
    app.add_middleware(Observe, metrics=counted)
    app.add_middleware(RequestId)
    install_handlers(app)
    app.include_router(health.router)
    for module in (batches, orders, snapshots, metrics, catalogue, stats):
        app.include_router(module.router, **guarding(tokens))
    install_document(app)
    _prefix(app, settings)
    return app


def make_crowd(settings: GatewaySettings, refusing: int = 0) -> Crowd:
    """Who may be here at once, by the settings; `refusing` as `Crowd` has it."""
    return Crowd(
        at_most=settings.max_connections,
        per_address=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
        refusing=refusing,
    )


def _prefix(app: FastAPI, settings: GatewaySettings) -> None:
    """Let the application know of a proxy's prefix. It takes the routes, so it comes after them."""
    taken = {first_segment(route.path) for route in iter_route_contexts(app.routes) if route.path is not None}
    if settings.root_path and first_segment(settings.root_path) in taken:
        raise InvalidValue(
            f"the prefix {settings.root_path} begins like the gateway's own paths, so nobody could tell whether the "
            "proxy has stripped it: choose another, as /nonesuch",
            field="root_path",
        )
    app.add_middleware(Prefixed, root_path=settings.root_path, trusted=settings.trusted_proxies, taken=taken)
