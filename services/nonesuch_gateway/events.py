"""How far an order is, as server-sent events.

    watcher  waits for: `POLL_S` ── unblocked by: the clock; ends with the order, or with the client

    event: progress    whenever more tickets are made; its id is their number
    event: end         the order is done, failed or expired; the last event
    event: gone        the order is no longer kept; the last event

The data of the first two is the order's status. FastAPI sends a comment when nothing was sent for 15 seconds, and
notices when the client goes away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from fastapi.sse import ServerSentEvent

from nonesuch.errors import OrderNotFound, ServiceError
from nonesuch.link import AsyncLink
from nonesuch_gateway.kept import Kept, find
from nonesuch_gateway.plans import Terms

POLL_S = 0.5
RETRY_MS = 2000
"""After how long a client that lost its connection comes again."""

log = logging.getLogger(__name__)


async def watch(
    link: AsyncLink, kept: Kept, terms: Terms, *, root: str, seen: str | None
) -> AsyncIterator[ServerSentEvent]:
    """The events of an order from now on; the one whose id was `seen` is not sent again, unless it is the end.

    Ends without a last event when Redis does not answer: the client comes again.
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
        await asyncio.sleep(POLL_S)
        try:
            kept = await link.run(find(link.keys, kept.id, terms))
        except OrderNotFound as error:
            yield ServerSentEvent(event="gone", id="end", data={"detail": str(error)})
            return
        except ServiceError as error:
            log.warning("order %s: its events were cut off: %s", kept.id, error)
            return
