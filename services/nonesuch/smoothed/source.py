"""The source of a `SmoothedDataset`'s images: a gateway (`over_http`) or Redis (`over_redis`); `opening` chooses."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nonesuch.classifiers.published import Snapshot
from nonesuch.offers import Catalog
from nonesuch.smoothed.orders import Wanted
from nonesuch.smoothed.resident import LabelledImages
from nonesuch.tally import NOTHING, Tally

OnProgress = Callable[[int, int], None]
"""A function that is told how many images have come, and of how many."""


@dataclass(frozen=True, eq=False)
class Came:
    """What came of some orders."""

    images: LabelledImages
    ordered: int
    """How many images were asked for."""
    short: Counter[int]
    """How many images their strategies could not make, by label."""
    oldest_version: int | None
    """The oldest snapshot that a batch was aimed at; None if no batch came."""
    tally: Tally = NOTHING
    """What became of the latents that were tried."""
    mint_s: float = 0.0
    """Seconds from placing the orders to their last batch."""
    wait_s: float = 0.0
    """Seconds in which whoever collected them had nothing else to do."""


class FreshSource(Protocol):
    """Images for one dataset. One thread at a time calls it, but for `close`, which any thread may call."""

    @property
    def catalog(self) -> Catalog:
        """What could be had when the source was opened."""

    def mint(self, wanted: Wanted, snapshot: Snapshot | None, on_progress: OnProgress) -> Came:
        """The images of an epoch, aimed at the snapshot where they are aimed. Blocks until they are there.

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
