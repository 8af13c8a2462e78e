"""Kernel distance between two sets of features (KID, where they are Inception's; Bińkowski et al. 2018).

The squared maximum mean discrepancy with the kernel k(x, y) = (x·y / d + 1)³, estimated without bias: on two samples
of one law its mean is 0 however few the images, so it may be negative.
"""

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen
from nonesuch.seeds import numpy_rng
from nonesuch_trainer.metrics.inputs import FloatArray, feature_pair


class Kernel(Frozen):
    """A kernel distance."""

    mean: float
    """The mean over the subsets."""
    std: float
    """The standard deviation over the subsets, so of one of them and not of the mean; 0 where both sets were used
    whole."""


def kernel_distance(
    a: FloatArray, b: FloatArray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Kernel:
    """The kernel distance of features a (N, d) and b (M, d), in float64.

    The mean over `subsets` draws of `subset_size` images from each set, without replacement within a draw. A set that
    is not larger is used whole; if neither is, there is a single draw and nothing random.

    Raises `InvalidValue` for features of different width, of fewer than 2 images, or not finite, and when `subsets` or
    `subset_size` is too small.
    """
    first, second = feature_pair(a, b)
    if subsets < 1 or subset_size < 2:
        raise InvalidValue(f"{subsets} subsets of {subset_size} images: give at least 1 subset of at least 2 images")
    if max(len(first), len(second)) <= subset_size:
        return Kernel(mean=_squared_discrepancy(first, second), std=0.0)
    rng = numpy_rng(seed, "subset")
    found = [
        _squared_discrepancy(*(_draw(features, subset_size, rng) for features in (first, second)))
        for _ in range(subsets)
    ]
    return Kernel(mean=float(np.mean(found)), std=float(np.std(found)))


def _draw(features: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A draw of `size` rows, or all when there are no more."""
    return features if len(features) <= size else features[rng.choice(len(features), size, replace=False)]


def _squared_discrepancy(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """MMD², the U-statistic: no image is compared with itself (Gretton et al. 2012, Eq. 3)."""
    within = sum(_off_diagonal_mean(_kernel(features, features)) for features in (x, y))
    return float(within - 2 * _kernel(x, y).mean())


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kernel of every pair of rows, (n, m)."""
    base: NDArray[np.float64] = x @ y.T / x.shape[1] + 1
    return base * base * base  # numpy's ** 3 is many times slower


def _off_diagonal_mean(matrix_nn: NDArray[np.float64]) -> float:
    n = len(matrix_nn)
    return float(matrix_nn.sum() - np.trace(matrix_nn)) / (n * (n - 1))
