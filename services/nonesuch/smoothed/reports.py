"""What a `SmoothedDataset` says of itself. Legend: N images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Refreshed:
    """What one `refresh` did."""

    replaced: int
    """How many images came in: exactly r·N, less those that are short."""
    short: int
    """How many images their strategy could not make."""
    age: int | None
    """How many models were published since the one that the mined images are aimed at; None if none were mined."""


@dataclass(frozen=True, eq=False)
class Ages:
    """How old a dataset's images are."""

    refreshes: NDArray[np.int64]
    """(N,) refreshes since each image came in; 0 is the last one"""
    snapshots: NDArray[np.int64]
    """(N,) models published since the one that a mined image is aimed at; -1 for an image that was drawn at random"""

    def __str__(self) -> str:
        mined = self.snapshots[self.snapshots >= 0]
        aimed = f", {len(mined)} mined against models {mined.mean():.1f} versions old" if len(mined) else ""
        return (
            f"{len(self.refreshes)} images, in the dataset for {self.refreshes.mean():.1f} refreshes "
            f"(at most {self.refreshes.max()}){aimed}"
        )
