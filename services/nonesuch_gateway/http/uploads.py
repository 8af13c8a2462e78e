"""Bodies that are received into memory, when they are too large for everybody to send one at the same time.

upload   waits for: the next part of the body ── unblocked by: the client, `stall_s`
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from nonesuch.errors import Busy


class Uploads:
    """The uploads that are open in this process: at most `limit`. `middleware.BodyLimit` bounds each."""

    def __init__(self, *, limit: int, stall_s: float) -> None:
        self._limit = limit
        self._stall_s = stall_s
        self._open = 0

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """The whole body of a request. It counts as open until the context is left.

        Raises `Busy` beyond the limit, before anything is read; a problem of status 408 when the client sends nothing
        for `stall_s`, and of 413 when it sends too much.
        """
        if self._open >= self._limit:
            raise Busy(f"{self._limit} uploads are being received, which is the limit: try again in a moment")
        self._open += 1
        try:
            yield await self._read(request)
        finally:
            self._open -= 1

    async def _read(self, request: Request) -> bytearray:
        body = bytearray()
        try:
            async with aclosing(request.stream()) as parts:
                while True:
                    async with asyncio.timeout(self._stall_s):
                        part = await anext(parts, None)
                    if part is None:
                        return body
                    body += part
        except TimeoutError:
            raise HTTPException(
                408, f"no part of the body came for {self._stall_s:g} s: send it again", {"Connection": "close"}
            ) from None
        except ClientDisconnect:
            raise HTTPException(400, "the client went away before its body was complete") from None
