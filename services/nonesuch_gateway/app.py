"""The application: settings in, FastAPI out.

    client ──► RequestId ──► BodyLimit ──► route ──► plan ──► reply ──► format ──► client
                                             └────────┴────────┴── an error ──► a problem ──► client

Each module draws its own part: `replies` what waits for workers, `streams` what waits for the client.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

import nonesuch
from nonesuch.link import AsyncLink
from nonesuch_gateway import batches, health, info, orders, snapshots
from nonesuch_gateway.middleware import BodyLimit, RequestId
from nonesuch_gateway.problems import install_handlers
from nonesuch_gateway.replies import Replies
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.state import Gateway
from nonesuch_gateway.uploads import Uploads


class _State(TypedDict):
    gateway: Gateway


def create_app(settings: GatewaySettings) -> FastAPI:
    """The gateway as an ASGI application. It starts without Redis and answers 503 until Redis is there."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[_State]:
        link = AsyncLink(settings.redis)
        replies = Replies(link, limit=settings.max_streams, limit_bytes=settings.max_reply_bytes)
        uploads = Uploads(limit=settings.max_uploads, stall_s=settings.stall_s)
        try:
            yield {"gateway": Gateway(settings, link, replies, uploads)}
        finally:
            await replies.settled()
            await link.close()

    app = FastAPI(
        title="Nonesuch",
        summary="Labelled training images that do not exist, minted on demand",
        version=nonesuch.__version__,
        lifespan=lifespan,
    )
    larger = {f"{snapshots.PREFIX}/": settings.max_snapshot_bytes}
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, larger=larger)
    app.add_middleware(RequestId)
    install_handlers(app)
    for module in (batches, orders, snapshots, health, info):
        app.include_router(module.router)
    return app
