"""How far an order is, as server-sent events.

    watcher  waits for: `POLL_S` ── unblocked by: the clock; ends with the order, with the client, or when the gateway
                                    stops

    event: progress    whenever more tickets are made; its id is their number
    event: end         the order is done, failed or expired; the last event
    event: gone        the order is no longer kept; the last event

The data of the first two is the order's status. A gateway that stops ends without any of them, so that the client comes
again, to the gateway that follows it. FastAPI sends a comment when nothing was sent for 15 seconds, and
notices when the client goes away.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi.sse import ServerSentEvent

from nonesuch.errors import OrderNotFound, ServiceError, Unavailable
from nonesuch.link import AsyncLink
from nonesuch_gateway.http.shutdown import Gate
from nonesuch_gateway.recipes.plans import Terms
from nonesuch_gateway.replies.large_orders import Kept, find

POLL_S = 0.5
RETRY_MS = 2000
"""How many ms a client that lost its connection waits before it comes again."""

log = logging.getLogger(__name__)


class Watchers:
    """The clients that follow an order in this process: at most `limit`."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let one more follow, until the context is left. Raises `Unavailable` beyond the limit."""
        if self._open >= self._limit:
            raise Unavailable(
                f"{self._limit} clients follow orders here, which is the limit: ask for the order itself, or try again "
                "in a moment"
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


async def watch(
    link: AsyncLink, gate: Gate, kept: Kept, terms: Terms, *, root: str, seen: str | None
) -> AsyncIterator[ServerSentEvent]:
    """The events of an order from now on; the one whose id was `seen` is not sent again, unless it is the end.

    Ends without a last event when Redis does not answer, and when the gate closes: the client comes again.
    """
    yield ServerSentEvent(retry=RETRY_MS)
    while True:
        status = kept.status(root)
        if status.state != "open":
            yield ServerSentEvent(event="end", id="end", data=status)
            return
        if (made := str(status.tickets.made)) != seen:
            yield ServerSentEvent(event="progress", id=made, data=status)
            seen = made
        if await gate.closes(within_s=POLL_S):
            yield ServerSentEvent(comment="this gateway is stopping: come again", retry=RETRY_MS)
            return
        try:
            kept = await link.run(find(link.keys, kept.id, terms))
        except OrderNotFound as error:
            yield ServerSentEvent(event="gone", id="end", data={"detail": str(error)})
            return
        except ServiceError as error:
            log.warning("order %s: its events were cut off: %s", kept.id, error)
            return
