"""Intervals and tests for accuracies on the same real images."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927), in [0, 1]."""
    p, z2 = correct / total, Z95**2
    middle = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return middle - half, middle + half


@dataclass(frozen=True)
class Paired:
    """How two classifiers did on the same images, or how pairs of them did, one for each seed, pooled."""

    only_first: int
    """How many images only the first classifier got right."""
    only_second: int
    total: int

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second, in [-1, 1]."""
        return (self.only_first - self.only_second) / self.total

    @property
    def p_value(self) -> float:
        """The two-sided p-value of McNemar's test with continuity correction (1947): how often chance alone would do as
        much."""
        discordant = self.only_first + self.only_second
        if discordant == 0:
            return 1.0
        statistic = max(0.0, abs(self.only_first - self.only_second) - 1) ** 2 / discordant
        return math.erfc(math.sqrt(statistic / 2))


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare two classifiers by which images each got right, (M,) or (seeds, M)."""
    assert first.shape == second.shape
    return Paired(int((first & ~second).sum()), int((second & ~first).sum()), first.size)


def spread(accuracies: list[float]) -> float:
    """The half width of the 95 % interval of the mean over seeds, by Student's t; NaN for a single seed.

    It covers what the seed changes (weights, order, minted images), which no interval over the test images does.
    """
    n = len(accuracies)
    if n < 2:
        return math.nan
    return _T975.get(n - 1, Z95) * float(np.std(accuracies, ddof=1)) / math.sqrt(n)


_T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""The 97.5 % quantiles of Student's t, by degrees of freedom."""
