"""What tests of the ticket loop share: a minter that does as it is told, a link that is watched, loops in threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.link import Link
from nonesuch.rings import Delivery, OrderEnd, release, take
from nonesuch.schema import read_batch
from nonesuch.tally import NOTHING, Tally
from nonesuch.tickets import Ticket
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import MintedTicket
from tests.helpers.fakes import WORKER, payload, ring

T = TypeVar("T")
RING = ring(slots=4)


class Minting:
    """Mints what `before` lets through."""

    def __init__(self, before: Callable[[Ticket], None] = lambda ticket: None, tally: Tally = NOTHING) -> None:
        self.before = before
        self.tally = tally
        """Of every ticket."""
        self.tickets: list[int] = []

    def mint(self, ticket: Ticket) -> MintedTicket:
        self.before(ticket)
        self.tickets.append(ticket.number)
        return MintedTicket(lambda: read_batch(payload(ticket)), self.tally)


class Watched(Link):
    """Calls `before` with an operation's name before it is run: it may block, and what it raises, `run` raises."""

    def __init__(self, settings: RedisSettings, before: Callable[[str], None]) -> None:
        super().__init__(settings)
        self.before = before
        self.operations: list[str] = []

    def run(self, op: Op[T]) -> T:
        self.operations.append(op.__name__)
        self.before(op.__name__)
        return super().run(op)


@contextmanager
def working(link: Link, *mintings: Minting) -> Iterator[list[TicketLoop]]:
    """One loop in a thread for each minter; they are stopped and joined at the end."""
    loops = [TicketLoop(link, minting, WORKER.model_copy(update={"id": f"w{i}"})) for i, minting in enumerate(mintings)]
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 5
        while len(link.run(read_catalog(link.keys)).workers) < len(loops):
            assert time.monotonic() < end
            time.sleep(0.01)
        yield loops
    finally:
        for loop in loops:
            loop.stop()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def collect(link: Link) -> tuple[dict[int, bytes], OrderEnd]:
    """Every ticket's bytes, and the end."""
    batches: dict[int, bytes] = {}
    while not isinstance(taken := link.run(take(link.keys, RING, timeout_s=20)), OrderEnd):
        assert isinstance(taken, Delivery)
        assert taken.ticket not in batches
        batches[taken.ticket] = taken.payload
        link.run(release(link.keys, RING, taken))
    link.run(release(link.keys, RING, taken))
    return batches, taken
