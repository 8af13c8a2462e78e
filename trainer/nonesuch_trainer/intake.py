"""What has come of the orders of one epoch. In which order batches arrive, and how often, leaves no trace."""

import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, OrderFailed
from nonesuch.orders import Order
from nonesuch.rings import Delivery, OrderEnd
from nonesuch.schema import images_of, labels_of, read_batch
from nonesuch_trainer.resident import LabelledImages


class Intake:
    """Collects the batches of some orders into one set of arrays, in the order of the orders and their indices.

    Args:
        orders: whose batches are wanted; others' are ignored.
        image_shape: (H, W, C).
        version: of the trainer's snapshot when they are placed: what images count as aimed at that used none.
    """

    def __init__(self, orders: Sequence[Order], image_shape: tuple[int, int, int], version: int) -> None:
        self.orders = tuple(orders)
        self.wanted = sum(order.count for order in orders)
        self.oldest_version: int | None = None
        """The oldest snapshot that a batch was aimed at; None before the first batch."""
        self.received = 0
        """Images that came."""
        self.tickets: dict[str, set[int]] = {order.id: set() for order in orders}
        """Numbers of the tickets that came, by order."""
        self.placed_at = self.last_at = time.monotonic()
        self._version = version
        self._ended: set[str] = set()
        self._withdrawn = False
        starts = np.cumsum([0, *(order.count for order in orders)])
        self._offsets = {order.id: int(start) for order, start in zip(orders, starts, strict=False)}
        self._images = np.empty((self.wanted, *image_shape), np.uint8)
        self._labels = np.empty(self.wanted, np.int32)
        self._there = np.zeros(self.wanted, bool)

    @property
    def open(self) -> list[Order]:
        """The orders that have not ended."""
        return [order for order in self.orders if order.id not in self._ended]

    def withdraw(self) -> list[Order]:
        """Content with what has come so far: from now on an order may end early. Returns those that are open."""
        self._withdrawn = True
        return self.open

    def add(self, delivery: Delivery) -> None:
        """Take in a batch, unless it came before or belongs to another order.

        Raises `IntegrityError` when it is not what was ordered.
        """
        seen = self.tickets.get(delivery.order)
        if seen is None or delivery.ticket in seen:
            return
        order = next(o for o in self.orders if o.id == delivery.order)
        batch = read_batch(delivery.payload)
        images, labels = images_of(batch), labels_of(batch)  # (B, H, W, C), (B,)
        indices = batch.column("index").to_numpy()  # (B,)
        start = delivery.ticket * order.ticket_size
        if (
            images.shape[1:] != self._images.shape[1:]
            or not np.isin(indices, np.arange(start, min(start + order.ticket_size, order.count))).all()
            or not np.array_equal(labels, order.labels.of(indices))
        ):
            raise IntegrityError(
                f"ticket {delivery.ticket} of order {order.id} does not hold what was ordered (images "
                f"{self._images.shape[1:]}, indices from {start}, their labels): is its worker of another version?"
            )
        rows = self._offsets[order.id] + indices
        self._images[rows], self._labels[rows], self._there[rows] = images, labels, True
        self._see_version(batch, order, delivery.ticket)
        seen.add(delivery.ticket)
        self.received += len(indices)
        self.last_at = time.monotonic()

    def end(self, end: OrderEnd) -> None:
        """Take note of an order's end. Raises `OrderFailed` unless every ticket came, or it was withdrawn."""
        if end.order not in self.tickets:
            return
        order = next(o for o in self.orders if o.id == end.order)
        came = len(self.tickets[order.id])
        complete = end.state == "done" and came == order.tickets
        if not complete and not (end.state == "cancelled" and self._withdrawn):
            raise OrderFailed(
                f"order {order.id} ({order.count} images by {order.strategy!r}) ended {end.state!r} with {came} of "
                f"{order.tickets} tickets: {end.reason or 'a batch was lost on the way'}"
            )
        self._ended.add(order.id)

    def collected(self) -> LabelledImages:
        """What came, by order and index."""
        seeds = np.repeat([order.seed for order in self.orders], [order.count for order in self.orders])
        indices = np.concatenate([np.arange(order.count) for order in self.orders])
        there: NDArray[np.bool_] = self._there
        if there.all():
            return LabelledImages(self._images, self._labels, seeds.astype(np.int64), indices)
        return LabelledImages(self._images[there], self._labels[there], seeds[there].astype(np.int64), indices[there])

    def _see_version(self, batch: pa.RecordBatch, order: Order, ticket: int) -> None:
        used = [v for v in batch.column("snapshot").unique().to_pylist() if v is not None]
        ordered = order.snapshot.version if order.snapshot else None
        if any(v != ordered for v in used):
            raise IntegrityError(f"ticket {ticket} of order {order.id} is aimed at snapshots {used}, not {ordered}")
        oldest = min(used, default=self._version)
        self.oldest_version = oldest if self.oldest_version is None else min(oldest, self.oldest_version)
