"""Images for a dataset, straight from Redis: a ring of its own. The ring's orders and snapshots go with it."""

import logging
import threading
import uuid
from dataclasses import replace

from nonesuch.classifiers.published import Snapshot
from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.orders import SnapshotRef
from nonesuch.rings import RingSpec
from nonesuch.smoothed.orders import DatasetOrders, Wanted
from nonesuch.smoothed.settings import Wait
from nonesuch.smoothed.source import Came, OnProgress
from nonesuch.smoothed.supply import Supply, reach

SLOTS = 16
"""How many tickets Redis holds for a dataset at most."""

log = logging.getLogger(__name__)


class RedisSource:
    """A `FreshSource` that places orders in Redis. Raises, when it is made, `Unreachable` at once and `NoWorkers` after
    `timeout_s`."""

    def __init__(self, redis: RedisSettings, *, timeout_s: float, stop: threading.Event) -> None:
        self._name = f"smoothed-{uuid.uuid4().hex[:12]}"
        self._wait, self._stop = Wait(patience_s=timeout_s), stop
        self._minted = 0
        self._supply: Supply | None = None
        self._link = Link(redis)
        try:
            self._patience, self.catalog = reach(self._link, outage_s=timeout_s, stop=stop, say=log.warning)
        except BaseException:
            self._link.close()
            raise

    def mint(self, wanted: Wanted, snapshot: Snapshot | None, on_progress: OnProgress) -> Came:
        supply = self._open(wanted.orders)
        version, aim = 0, None
        if snapshot is not None:
            supply.publish(replace(snapshot, header=snapshot.header.model_copy(update={"channel": self._name})))
            version = snapshot.header.version
            aim = SnapshotRef(channel=self._name, version=version)
        self._minted += 1  # an id is never used twice, so that what a failed mint has left cannot be mistaken
        orders = wanted.placed(f"{self._name}-{self._minted}", self._name, aim)
        try:
            supply.place(orders, wanted.orders.image_shape, version=version)
            return supply.collect(self._wait, on_progress)
        except BaseException:
            supply.withdraw()
            raise

    def close(self) -> None:
        if self._supply is not None:
            self._supply.close()
        self._link.close()

    def _open(self, orders: DatasetOrders) -> Supply:
        """The ring of the dataset's images, opened the first time."""
        if self._supply is None:
            ring = RingSpec(name=self._name, slots=SLOTS, slot_bytes=orders.slot_bytes, channels=(self._name,))
            supply = Supply(self._patience, ring, self._stop)
            supply.open()
            self._supply = supply
        return self._supply
