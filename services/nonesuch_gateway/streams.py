"""A response that streams one order.

    writer   waits for: the next batch ── unblocked by: the reply (see `replies`)
             waits for: the client to take what was written ── unblocked by: the client, `stall_s`
    watcher  waits for: the client to go away ── cancels the writer

The response starts with its first batch, so an error before that is an answer of its own. After that there is only
one honest way to fail: the connection is closed without the last chunk, and every HTTP client reports a body that
was cut off.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nonesuch.errors import NonesuchError
from nonesuch_gateway.formats import Format
from nonesuch_gateway.plans import Plan
from nonesuch_gateway.replies import Replies, Reply

PIECE_BYTES = 2**20
"""What is handed to the server at a time; it buffers one piece at most for a client that does not read."""

log = logging.getLogger(__name__)


class _Stalled(NonesuchError):
    """The client took nothing for too long."""


class OrderStream(Response):
    """Places an order, streams its batches in a format, and withdraws the order when the client goes away."""

    def __init__(self, replies: Replies, plan: Plan, form: Format, headers: Mapping[str, str], stall_s: float) -> None:
        # Like StreamingResponse, without Response's constructor: there is no body whose length could be given.
        self.status_code = 200
        self.media_type = form.media_type
        self.background = None
        self.init_headers(headers)
        self._replies = replies
        self._plan = plan
        self._format = form
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what `Replies.open` and `Reply.batches` raise, before the first byte; afterwards it only cuts off."""
        async with self._replies.open(self._plan) as reply:
            await _until_gone(receive, self._write(reply, send))

    async def _write(self, reply: Reply, send: Send) -> None:
        started = False
        try:
            async with aclosing(reply.batches()) as batches:
                async for batch in batches:
                    data = self._format.add(batch)
                    if not started:
                        started = True
                        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    await self._send(send, data)
            await self._send(send, self._format.finish())
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except NonesuchError as error:
            if not started:
                raise
            # Returning here leaves the response incomplete, which makes the server close the connection.
            log.warning("order %s: the stream was cut off: %s", self._plan.order.id, error)

    async def _send(self, send: Send, data: bytes) -> None:
        """Send pieces, each when the client has taken the one before it."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            try:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            except TimeoutError:
                raise _Stalled(f"the client took no data for {self._stall_s:g} s") from None


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
