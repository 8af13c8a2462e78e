"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020) of generated images.

Around each image stands a ball that reaches to its k-th nearest neighbour in its own set; the balls of a set together
are its manifold. N real, M generated images, d features:

    precision   share of the generated images in the ball of some real one
    recall      share of the real images in the ball of some generated one
    density     balls of real images that a generated image is in, over k, on average: 1 for equal laws, may be more
    coverage    share of the real images with a generated one in their ball

Precision and recall of two samples of one law are far from 1 in high dimensions (0.48 for N(0, I) of 1,000 features):
print what real images give against other real ones. For coverage, `expected_coverage` is that number.

Balls are open, as in the papers' code, but always hold copies of their centre, even when k neighbours of it are copies
too and the radius is 0. Distances are rounded; ties within the rounding count as ties, so copies are found for sure.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen
from nonesuch_trainer.metrics.inputs import FloatArray, feature_pair

_CELLS = 2**20
"""How many distances are in memory at a time, so that it does not grow with N·M."""
_ROUNDING = 1e-12
"""What float64 may get wrong in |x|² + |y|² − 2x·y, as a share of |x|² + |y|²."""


class PRDC(Frozen):
    """Precision, recall and coverage in [0, 1], density ≥ 0."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: FloatArray, fake: FloatArray, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage, from real features (N, d) and generated ones (M, d).

    Memory beyond the features, twice over in float64, stays below 100 MB up to a million images. Time goes with
    (N + M)²·d.

    Raises `InvalidValue` for features of different width, of k images or fewer, or not finite, and for k < 1.
    """
    if k < 1:
        raise InvalidValue(f"k = {k}: a ball reaches to the k-th nearest neighbour, so give 1 or more (5 is usual)")
    x, y = feature_pair(real, fake, least=k + 1)
    centre = x.mean(axis=0)  # a mean far from 0 would cost digits
    x, y = x - centre, y - centre
    x_radii, y_radii = _squared_radii(x, k), _squared_radii(y, k)  # (N,), (M,)
    balls = np.zeros(len(y), dtype=np.int64)  # of real images that hold each generated one
    covered, recalled = np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    for rows, squared, slack in _blocks(x, y):  # (n, M)
        copies = squared == 0
        in_real = copies | (squared < x_radii[rows, None] - slack)
        in_fake = copies | (squared < y_radii - slack)
        balls += in_real.sum(axis=0)
        covered[rows] = in_real.any(axis=1)
        recalled[rows] = in_fake.any(axis=1)
    return PRDC(
        precision=float((balls > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls.mean() / k),
        coverage=float(covered.mean()),
    )


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """What coverage is on average for n real and m generated images of one law, whatever the law (if continuous).

    Of the n − 1 + m others around a real image, every order by distance is equally likely. It is not covered when the
    nearest k are all real: 1 − C(n−1, k) / C(n+m−1, k). 0.96877 for n = m = 10,000 and k = 5; near 1 − 2^−k for n = m.

    Raises `InvalidValue` when there are no k neighbours, or nothing was generated.
    """
    if not 1 <= k < n or m < 1:
        raise InvalidValue(f"n = {n}, m = {m}, k = {k}: give k from 1 to n − 1, and m of at least 1")
    return 1 - prod((n - 1 - i) / (n + m - 1 - i) for i in range(k))


def _squared_radii(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """(N,) squared distance of each row to the k-th nearest of the others; copies of it are others."""
    radii = np.empty(len(x))
    for rows, squared, _ in _blocks(x, x):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf  # not its own neighbour
        radii[rows] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii


def _blocks(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Yields, for n rows of x at a time, which they are, their squared distances to y (n, M), and how far these may be
    off (n, M)."""
    x_norms, y_norms = (np.einsum("ij,ij->i", rows, rows) for rows in (x, y))
    step = max(1, _CELLS // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        squared = x_norms[rows, None] + y_norms  # (n, M)
        slack = _ROUNDING * squared
        product = x[rows] @ y.T
        squared -= np.multiply(product, 2, out=product)
        squared[squared < slack] = 0
        yield rows, squared, slack
