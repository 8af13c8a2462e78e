"""What has come of the orders of one epoch. In which order batches arrive, and how often, leaves no trace."""

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.orders import Order
from nonesuch.rings import Delivery, OrderEnd
from nonesuch.schema import images_of, indices_of, labels_of, read_batch, soft_labels_of
from nonesuch.smoothed.resident import NO_SNAPSHOT, LabelledImages
from nonesuch.smoothed.source import Came
from nonesuch.tally import NOTHING, Tally


class Intake:
    """Collects the batches of some orders into one set of arrays, in the order of the orders and their indices.

    Args:
        orders: whose batches are wanted; others' are ignored.
        image_shape: (H, W, C).
        version: of the trainer's snapshot when they are placed: what images count as aimed at that used none.
        soft_labels: K, the number of classes, if every image is to come with a teacher's probabilities.
    """

    def __init__(
        self, orders: Sequence[Order], image_shape: tuple[int, int, int], version: int, soft_labels: int | None = None
    ) -> None:
        self.orders = tuple(orders)
        self.wanted = sum(order.count for order in orders)
        self.oldest_version: int | None = None
        """The oldest snapshot that a batch was aimed at; None before the first batch."""
        self.received = 0
        """How many images came."""
        self.tickets: dict[str, set[int]] = {order.id: set() for order in orders}
        """The numbers of the tickets that came, by order."""
        self.tally: Tally = NOTHING
        """The tally of the orders that have ended; of what was made before Redis was restarted nothing is in it."""
        self.placed_at = self.last_at = time.monotonic()
        self._version = version
        self._ended: set[str] = set()
        self._withdrawn = False
        starts = np.cumsum([0, *(order.count for order in orders)])
        self._offsets = {order.id: int(start) for order, start in zip(orders, starts, strict=False)}
        self._images = np.empty((self.wanted, *image_shape), np.uint8)
        self._labels = np.empty(self.wanted, np.int32)
        self._snapshots = np.full(self.wanted, NO_SNAPSHOT, np.int64)
        self._soft = None if soft_labels is None else np.zeros((self.wanted, soft_labels), np.float16)
        self._there = np.zeros(self.wanted, bool)

    @property
    def open(self) -> list[Order]:
        """The orders that have not ended."""
        return [order for order in self.orders if order.id not in self._ended]

    def withdraw(self) -> list[Order]:
        """Be content with what has come so far: from now on an order may end early. Returns those that are open."""
        self._withdrawn = True
        return self.open

    def add(self, delivery: Delivery) -> None:
        """Take in a batch, unless it came before or belongs to another order.

        Raises `IntegrityError` when it is not what was ordered.
        """
        seen = self.tickets.get(delivery.order)
        if seen is None or delivery.ticket in seen:
            return
        order = self._order(delivery.order)
        start = delivery.ticket * order.ticket_size
        stop = min(start + order.ticket_size, order.count)
        self._put(order, read_batch(delivery.payload), start, stop, f"ticket {delivery.ticket}")
        seen.add(delivery.ticket)

    def add_rows(self, order_id: str, batch: pa.RecordBatch) -> None:
        """Take in rows of an order in whatever portions they come; again, if they came before.

        Raises `IntegrityError` when they are not what was ordered.
        """
        order = self._order(order_id)
        self._put(order, batch, 0, order.count, "a part")

    def complete(self, order_id: str) -> None:
        """Take note that every row of an order came that there is."""
        order = self._order(order_id)
        self.tickets[order_id].update(range(order.tickets))
        self._ended.add(order_id)

    def end(self, end: OrderEnd) -> None:
        """Take note of an order's end. Raises `OrderFailed` unless every ticket came, or it was withdrawn."""
        if end.order not in self.tickets:
            return
        order = self._order(end.order)
        came = len(self.tickets[order.id])
        complete = end.state == "done" and came == order.tickets
        if not complete and not (end.state == "cancelled" and self._withdrawn):
            raise OrderFailed(
                f"order {order.id} ({order.count} images by {order.strategy!r}) ended {end.state!r} with {came} of "
                f"{order.tickets} tickets: {end.reason or 'a batch was lost on the way'}"
            )
        self._ended.add(order.id)
        self.tally += end.tally

    @property
    def short(self) -> Counter[int]:
        """Images by label that their strategies could not make, of the tickets that came."""
        missing: Counter[int] = Counter()
        for order in self.orders:
            offset = self._offsets[order.id]
            for ticket in self.tickets[order.id]:
                start = ticket * order.ticket_size
                indices = np.arange(start, min(start + order.ticket_size, order.count))
                missing.update(order.labels.of(indices[~self._there[offset + indices]]).tolist())
        return missing

    def came(self, *, waited_s: float) -> Came:
        """Everything that came, for whoever waited for it for `waited_s` seconds."""
        return Came(
            images=self.collected(),
            ordered=self.wanted,
            short=self.short,
            oldest_version=self.oldest_version,
            tally=self.tally,
            mint_s=self.last_at - self.placed_at,
            wait_s=waited_s,
        )

    def collected(self) -> LabelledImages:
        """The images that came, by order and index."""
        seeds = np.repeat([order.seed for order in self.orders], [order.count for order in self.orders])
        indices = np.concatenate([np.arange(order.count) for order in self.orders])
        there: NDArray[np.bool_] | slice = slice(None) if self._there.all() else self._there  # a slice copies nothing
        return LabelledImages(
            images=self._images[there],
            labels=self._labels[there],
            seeds=seeds.astype(np.int64)[there],
            indices=indices[there],
            snapshots=self._snapshots[there],
            soft=None if self._soft is None else self._soft[there],
        )

    def _order(self, order_id: str) -> Order:
        return next(order for order in self.orders if order.id == order_id)

    def _put(self, order: Order, batch: pa.RecordBatch, start: int, stop: int, what: str) -> None:
        """Put rows in their places. Raises `IntegrityError` unless they are those of the indices in [start, stop)."""
        images, labels = images_of(batch), labels_of(batch)  # (B, H, W, C), (B,)
        indices = indices_of(batch)  # (B,)
        if (
            images.shape[1:] != self._images.shape[1:]
            or not ((start <= indices) & (indices < stop)).all()
            or not np.array_equal(labels, order.labels.of(indices))
        ):
            raise IntegrityError(
                f"{what} of order {order.id} does not hold what was ordered (images {self._images.shape[1:]}, indices "
                f"from {start}, their labels): is its worker of another version?"
            )
        self._see_version(batch, order, what)
        rows = self._offsets[order.id] + indices
        self.received += int((~self._there[rows]).sum())
        self._images[rows], self._labels[rows], self._there[rows] = images, labels, True
        self._snapshots[rows] = batch.column("snapshot").fill_null(NO_SNAPSHOT).to_numpy()
        if self._soft is not None and len(rows):
            self._soft[rows] = _soft_labels(batch, order, what, classes=self._soft.shape[1])
        self.last_at = time.monotonic()

    def _see_version(self, batch: pa.RecordBatch, order: Order, what: str) -> None:
        used = [v for v in batch.column("snapshot").unique().to_pylist() if v is not None]
        ordered = order.snapshot.version if order.snapshot else None
        if any(v != ordered for v in used):
            raise IntegrityError(f"{what} of order {order.id} is aimed at snapshots {used}, not {ordered}")
        oldest = min(used, default=self._version)
        self.oldest_version = oldest if self.oldest_version is None else min(oldest, self.oldest_version)


def _soft_labels(batch: pa.RecordBatch, order: Order, what: str, classes: int) -> NDArray[np.float16]:
    """The soft labels (B, K) of a batch with rows. Raises `IntegrityError` when it has none for these classes."""
    given = soft_labels_of(batch)
    if given is None or given.shape[1] != classes:
        raise IntegrityError(
            f"{what} of order {order.id} should carry a teacher's probabilities of {classes} classes and has "
            f"{'none' if given is None else given.shape[1]}: is its worker of another version?"
        )
    return given
