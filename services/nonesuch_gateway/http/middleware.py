"""Middleware in plain ASGI: what happens to every request, whatever its route."""

import asyncio
import re
import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nonesuch_gateway.telemetry import logs

BODY_BYTES_PER_S = 16_384
"""How fast a body must come when it has used up the time that every body has."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class RequestId:
    """Gives every request an id, or keeps the caller's `X-Request-Id` where it is safe to log; answers carry it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        logs.request_id.set(request_id)  # for as long as this request's task, whose last lines are the server's

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses a body above `max_bytes` with 413: at once if its length is declared, else as soon as it is seen. Refuses
    with 408 one that took longer than `within_s`, and one second for each `BODY_BYTES_PER_S` of it that came.

    `larger` are limits of their own for paths that begin so.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int], within_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        limit = next((limit for start, limit in self._larger.items() if path.startswith(start)), self._max_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        received, waited, whole = 0, 0.0, False

        async def limited_receive() -> Message:
            nonlocal received, waited, whole
            if declared.isdecimal() and int(declared) > limit:
                raise _refusal(f"{declared} bytes", limit)
            if whole:
                return await receive()  # waits for the client to go away
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._within_s + received / BODY_BYTES_PER_S - waited):
                    message = await receive()
            except TimeoutError:
                detail = f"the body was not here after {self._within_s:g} s, but for {received} bytes: send it again"
                raise HTTPException(408, detail, {"Connection": "close"}) from None
            waited += time.monotonic() - began
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise _refusal(f"more than {limit} bytes", limit)
            return message

        await self._app(scope, limited_receive, send)


def _refusal(size: str, limit: int) -> HTTPException:
    return HTTPException(413, f"the body has {size} and {limit} are allowed: send a smaller request")
