"""Offline export: an order whose images go to a file.

main   waits for: the next batch of its ring ── unblocked by: a commit, the end of the order, the timeout
       then for:  a Redis that is away ──────── unblocked by: its return, the same timeout
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nonesuch.effects import Op
from nonesuch.errors import OrderFailed, RingClosed, Unreachable
from nonesuch.formats.tables import TABLES, Writer, check_table, open_writer
from nonesuch.host.files import creating
from nonesuch.ledger import Ledger
from nonesuch.link import Link
from nonesuch.link.patience import Patience
from nonesuch.orders import Checked, Order, place
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import format_of, ledger_of, read_batch
from nonesuch.sequencer import Sequencer
from nonesuch.tally import Tally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What an export has written."""

    rows: int
    """Images; fewer than were ordered where the strategy could not fill every index."""
    tally: Tally
    ledger: Ledger
    """The real information behind the images. The file carries it too, as metadata of its schema."""


def export(
    link: Link,
    order: Checked,
    ring: RingSpec,
    path: Path,
    *,
    timeout_s: float = 120.0,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Written:
    """Place an order and write its images to `path` in index order. Blocks until they are there.

    The file appears when it is complete. Raises `InvalidValue` for an ending that is no format, or images that the
    format cannot hold; what `creating` and `place` raise; `TakeTimeout` when nothing came for `timeout_s`,
    `Unreachable` when Redis was away for as long, and `OrderFailed`. Whatever happens, the order and its ring are gone
    afterwards.
    """
    form = format_of(path, TABLES)
    check_table(form, order.info.image_shape)
    with creating(path) as unfinished:
        link.run(open_ring(link.keys, ring))
        try:
            link.run(place(link.keys, order))
            return _write(link, order.order, ring, unfinished, form, timeout_s, on_rows)
        finally:
            link.run(close_ring(link.keys, ring.name))


def _write(
    link: Link, order: Order, ring: RingSpec, path: Path, form: str, timeout_s: float, on_rows: Callable[[int], None]
) -> Written:
    writer: Writer | None = None
    ledger = Ledger()
    try:
        turns: Sequencer[Delivery] = Sequencer()
        came: set[int] = set()
        service = _Service(link, ring, timeout_s)
        while not isinstance(taken := service.take(), OrderEnd):
            if taken.ticket in came:  # it was in hand when Redis went away, and is held here
                continue
            came.add(taken.ticket)
            for delivery in turns.push(taken.ticket, taken):
                batch = read_batch(delivery.payload)
                ledger = ledger_of(batch.schema)
                writer = writer or open_writer(path, form, batch.schema)
                writer.write_batch(batch)
                service.release(delivery)
                on_rows(delivery.rows)
        if taken.state != "done":
            raise OrderFailed(f"order {order.id} ended {taken.state} after {taken.rows} images: {taken.reason}")
        return Written(taken.rows, taken.tally, ledger)
    finally:
        if writer is not None:
            writer.close()


class _Service:
    """The ring of one order, behind a Redis that may be away for as long as a batch is waited for."""

    def __init__(self, link: Link, ring: RingSpec, timeout_s: float) -> None:
        self._keys, self._ring, self._timeout_s = link.keys, ring, timeout_s
        self._patience = Patience(link, outage_s=timeout_s, stop=threading.Event(), say=log.warning)
        self._in_doubt = False
        """Whether an entry may have been on its way when Redis went away: then it is unread again."""

    def take(self) -> Delivery | OrderEnd:
        return self._patience.run(self._take, self._doubt, passing=(Unreachable,))

    def release(self, delivery: Delivery) -> None:
        self._patience.run(partial(release, self._keys, self._ring, delivery), self._doubt, passing=(Unreachable,))

    def _doubt(self) -> None:
        self._in_doubt = True

    def _take(self) -> Op[Delivery | OrderEnd]:
        if self._in_doubt and not (yield from open_ring(self._keys, self._ring)):
            raise RingClosed("Redis was restarted and has lost the order: order again, with the same seed")
        self._in_doubt = False
        return (yield from take(self._keys, self._ring, timeout_s=self._timeout_s))
