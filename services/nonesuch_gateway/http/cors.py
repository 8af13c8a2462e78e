"""Pages of other origins: browsers let them read answers only if the gateway says so (the Fetch standard's CORS)."""

from collections.abc import Collection, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY = "*"
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_SENT = (
    "Accept", "Authorization", "Content-Digest", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match",
    "Last-Event-ID", "X-Request-Id",
)  # fmt: skip
"""The headers of requests that the gateway reads."""


class Origins:
    """Lets the pages of some origins ask and read, with a token in `Authorization` and never with cookies."""

    def __init__(self, app: ASGIApp, origins: Sequence[str], exposed: Collection[str]) -> None:
        """`origins` are as browsers send them, or `*` for any; `exposed` are the headers of answers that pages see."""
        self._app = app
        self._varies = ANY not in origins
        self._cors = CORSMiddleware(
            app,
            allow_origins=list(origins),
            allow_methods=_METHODS,
            allow_headers=_SENT,
            expose_headers=sorted(exposed),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._varies or "origin" in Headers(scope=scope):
            await self._cors(scope, receive, send)
            return

        async def send_varying(message: Message) -> None:
            # A shared cache would else give a page the answer that a program without an origin got.
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, send_varying)
