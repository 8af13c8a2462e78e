"""Images straight from Redis: a ring of the dataset's own. Its orders and snapshots go with it."""

import logging
import threading
import uuid
from contextlib import suppress
from functools import partial

from nonesuch.config import RedisSettings
from nonesuch.errors import NonesuchError
from nonesuch.link.connection import Link
from nonesuch.link.patience import Patience
from nonesuch.orders import Order, SnapshotRef, cancel, wait_for_workers
from nonesuch.rings import RingSpec
from nonesuch.schema import batch_bytes
from nonesuch.smoothed.intake import Intake
from nonesuch.smoothed.settings import Orders
from nonesuch.smoothed.source import Minted, Snapshot
from nonesuch.smoothed.supply import OnProgress, Supply, Wait

SLOTS = 16
"""Tickets that Redis holds for a dataset at most."""

log = logging.getLogger(__name__)


class RedisSource:
    """A `Source`. Raises, when it is made, `Unreachable` at once and `NoWorkers` after `timeout_s`."""

    def __init__(self, redis: RedisSettings, *, timeout_s: float, stop: threading.Event) -> None:
        self._name = f"smoothed-{uuid.uuid4().hex[:12]}"
        self._wait, self._stop = Wait(patience_s=timeout_s), stop
        self._minted = 0
        self._supply: Supply | None = None
        self._link = Link(redis)
        try:
            self._link.ping()
            self._patience = Patience(self._link, outage_s=timeout_s, stop=stop, say=log.warning)
            self.catalog = self._patience.run(partial(wait_for_workers, self._link.keys))
        except BaseException:
            self._link.close()
            raise

    def mint(self, orders: Orders, epoch: int, snapshot: Snapshot | None, on_progress: OnProgress) -> Minted:
        supply = self._open(orders)
        if snapshot is not None:
            supply.publish(snapshot.header.model_copy(update={"channel": self._name}), snapshot.payload)
        version = None if snapshot is None else snapshot.header.version
        aim = None if version is None else SnapshotRef(channel=self._name, version=version)
        self._minted += 1  # an id is never used twice, so that what a failed mint has left cannot be mistaken
        placed = orders.of(epoch, f"{self._name}-{self._minted}", self._name, aim)
        intake = Intake(placed, orders.info.image_shape, version or 0)
        try:
            supply.place(intake)
            supply.collect(self._wait, on_progress)
        except BaseException:
            self._withdraw(placed)
            raise
        return Minted(intake.collected(), intake.short)

    def close(self) -> None:
        if self._supply is not None:
            self._supply.close()
        self._link.close()

    def _open(self, orders: Orders) -> Supply:
        """The ring of the generator's images, opened the first time."""
        if self._supply is None:
            ring = RingSpec(
                name=self._name,
                slots=SLOTS,
                slot_bytes=max(1024, batch_bytes(orders.info, orders.ticket_size)),
                channels=(self._name,),
            )
            supply = Supply(self._patience, ring, self._stop)
            supply.open()
            self._supply = supply
        return self._supply

    def _withdraw(self, placed: tuple[Order, ...]) -> None:
        with suppress(NonesuchError):
            for order in placed:
                self._link.run(cancel(self._link.keys, order.id))
