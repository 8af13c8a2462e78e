"""A response that streams one order.

    writer   waits for: the next bytes ── unblocked by: the reply (see `reading`), the format (see `formats.base`)
             waits for: the client to take what was written ── unblocked by: the client, `stall_s`
    watcher  waits for: the client to go away ── cancels the writer

A small answer is sent when it is whole, with its length and digest. A large one starts with its first bytes, so an
error before that is an answer of its own. After that there is only one honest way to fail: the connection is closed
without the last chunk (or reset, in HTTP/1.0), and every HTTP client reports a body that was cut off.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from hashlib import sha256

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nonesuch.errors import NonesuchError, TakeTimeout
from nonesuch_gateway.formats import Format, encoded
from nonesuch_gateway.http.conditions import content_digest
from nonesuch_gateway.replies.reading import Reply
from nonesuch_gateway.telemetry.observe import Noted, Outcome, noted

PIECE_BYTES = 2**20
"""How many bytes are handed to the server at a time; it buffers one piece at most for a client that does not read."""

OnSent = Callable[[], Awaitable[None]]
"""What is called after the last byte of an answer that is whole."""

log = logging.getLogger(__name__)


class _Stalled(NonesuchError):
    """The client took nothing for too long."""


class OrderStream(Response):
    """Opens a reply, streams its batches in a format, and leaves the reply when the client goes away.

    Up to `buffer_bytes` are held back until the answer is whole; 0 stands for none. What of an answer is more is
    streamed from there.
    """

    def __init__(
        self,
        opening: AbstractAsyncContextManager[Reply],
        form: Format,
        headers: Mapping[str, str],
        *,
        stall_s: float,
        buffer_bytes: int,
        on_sent: OnSent | None = None,
    ) -> None:
        # Like StreamingResponse, without Response's constructor: there is no body whose length could be given.
        self.status_code = 200
        self.media_type = form.media_type
        self.background = None
        self.init_headers(headers)
        self._opening = opening
        self._format = form
        self._stall_s = stall_s
        self._buffer_bytes = buffer_bytes
        self._on_sent = on_sent

    def head(self) -> Response:
        """The answer without its images, for HEAD. The stream must not be used any more."""
        self._format.close()
        head = Response(headers=self.headers)
        del head.headers["Content-Length"]  # it is not known before the images are made
        return head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what opening the reply and `Reply.batches` raise before the first byte; after it, it only cuts off."""
        try:
            async with self._opening as reply:
                seen, order = noted(scope), reply.plan.order
                seen.order, seen.priority, seen.format = order.id, order.priority, self._format.name
                seen.outcome = "cancelled"  # unless the writer comes to an end
                try:
                    await _until_gone(receive, self._write(reply, send, seen))
                finally:
                    seen.images = reply.images
                    if seen.outcome == "cancelled" and seen.priority == "bulk" and not reply.begun:
                        seen.outcome = None  # it goes on without this reader
            if noted(scope).outcome == "done" and self._on_sent is not None:
                await self._on_sent()
        finally:
            self._format.close()

    async def _write(self, reply: Reply, send: Send, seen: Noted) -> None:
        started = False
        held, digest = bytearray(), sha256()
        try:
            async with aclosing(reply.batches()) as batches, aclosing(encoded(self._format, batches)) as pieces:
                async for data in pieces:
                    if not started and len(held) + len(data) <= self._buffer_bytes:
                        held += data
                        digest.update(data)
                        continue
                    if not started:
                        started = True
                        await self._start(send)
                        await self._send(send, held)
                        held = bytearray()
                    await self._send(send, data)
            if not started:
                started = True
                self.headers["Content-Length"] = str(len(held))
                self.headers["Content-Digest"] = content_digest(digest.hexdigest())
                await self._start(send)
                await self._send(send, held)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            seen.outcome = "done"
        except NonesuchError as error:
            seen.outcome = _outcome(error)
            if not started:
                raise
            # Returning here leaves the response incomplete, which makes the server close the connection.
            log.warning("order %s: the stream was cut off: %s", reply.plan.order.id, error)

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

    async def _send(self, send: Send, data: bytes | bytearray | memoryview) -> None:
        """Send pieces, each when the client has taken the one before it."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            try:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                raise _Stalled(f"the client took no data for {self._stall_s:g} s") from None


def _outcome(error: NonesuchError) -> Outcome:
    if isinstance(error, TakeTimeout):
        return "expired"
    return "cancelled" if isinstance(error, _Stalled) else "failed"


async def _until_gone(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Do the work, or drop it when the client goes away. Returns when the work has stopped, and raises its error."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        gone.cancel()
        await _stop(working)


async def _stop(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended. Once is not enough: redis-py sends commands inside `asyncio.wait_for`, which
    before Python 3.12 drops a cancellation that comes at the same time as its result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
