"""Where a `SmoothedDataset` gets its images: a gateway (`over_http`) or Redis (`over_redis`); `opening` chooses."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from nonesuch.offers import Catalog
from nonesuch.smoothed.resident import LabelledImages
from nonesuch.smoothed.settings import Orders
from nonesuch.smoothed.supply import OnProgress
from nonesuch.snapshots import SnapshotHeader


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A classifier to aim at."""

    header: SnapshotHeader
    """Its channel is the source's to say."""
    payload: bytes


@dataclass(frozen=True, eq=False)
class Minted:
    """What came of some orders."""

    images: LabelledImages
    short: Counter[int]
    """Images by label that their strategy could not make."""


class Source(Protocol):
    """Images for one dataset. One thread at a time calls it, but for `close`, which any thread may call."""

    @property
    def catalog(self) -> Catalog:
        """What could be had when the source was opened."""

    def mint(self, orders: Orders, epoch: int, snapshot: Snapshot | None, on_progress: OnProgress) -> Minted:
        """The images of an epoch: all of them for epoch 0, otherwise those that are fresh, aimed at the snapshot.

        Blocks until they are there.

        Raises:
            Unreachable, NoWorkers, Busy, RingClosed: the service was away for longer than the source's patience.
            TakeTimeout: no image came for so long.
            OrderFailed: some could not be made.
            InvalidOrder, InvalidSnapshot, GeneratorNotFound, SnapshotNotFound: they cannot be ordered.
            IntegrityError: what came is not what was ordered.
            Stopped: the source was closed.
        """

    def close(self) -> None:
        """Withdraw what was asked for. `mint` ends soon after."""
