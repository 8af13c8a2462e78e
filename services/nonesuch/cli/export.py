"""Offline export: an order whose images go to a file.

main   waits for: the next batch of its ring ── unblocked by: a commit, the end of the order, the timeout
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nonesuch.errors import OrderFailed
from nonesuch.host.files import creating
from nonesuch.ledger import Ledger
from nonesuch.link import Link
from nonesuch.orders import Checked, Order, place
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from nonesuch.schema import TABLES, Writer, format_of, ledger_of, open_writer, read_batch
from nonesuch.sequencer import Sequencer
from nonesuch.tally import Tally


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

    The file appears when it is complete. Raises what `creating` and `place` raise, `TakeTimeout` when nothing came for
    `timeout_s`, and `OrderFailed`. Whatever happens, the order and its ring are gone afterwards.
    """
    form = format_of(path, TABLES)
    with creating(path) as partial:
        link.run(open_ring(link.keys, ring))
        try:
            link.run(place(link.keys, order))
            return _write(link, order.order, ring, partial, form, timeout_s, on_rows)
        finally:
            link.run(close_ring(link.keys, ring.name))


def _write(
    link: Link, order: Order, ring: RingSpec, path: Path, form: str, timeout_s: float, on_rows: Callable[[int], None]
) -> Written:
    writer: Writer | None = None
    ledger = Ledger()
    try:
        turns: Sequencer[Delivery] = Sequencer()
        while not isinstance(taken := link.run(take(link.keys, ring, timeout_s=timeout_s)), OrderEnd):
            for delivery in turns.push(taken.ticket, taken):
                batch = read_batch(delivery.payload)
                ledger = ledger_of(batch.schema)
                writer = writer or open_writer(path, form, batch.schema)
                writer.write_batch(batch)
                link.run(release(link.keys, ring, delivery))
                on_rows(delivery.rows)
        if taken.state != "done":
            raise OrderFailed(f"order {order.id} ended {taken.state} after {taken.rows} images: {taken.reason}")
        return Written(taken.rows, taken.tally, ledger)
    finally:
        if writer is not None:
            writer.close()
