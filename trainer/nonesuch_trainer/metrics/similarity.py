"""Multi-scale structural similarity (MS-SSIM; Wang et al. 2003), and by it the diversity within a class.

Similarity in structure is a product over scales, each half the size of the one before, and a window must fit in the
last. With the literature's 5 scales and window of 11 that takes images of 176 pixels. Here are 3 scales and a window of
5, so 20 pixels are enough. σ = 0.7 belongs to the window: 5 pixels hold about ±3σ, as 11 do of σ = 1.5. Figures
with other settings cannot be compared: put those of real images of the same classes beside them.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.seeds import numpy_rng
from nonesuch_trainer.metrics.inputs import IntArray, check_images, check_labelled

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The weights of the scales, finest first (Wang et al. 2003); fewer scales use the first ones, scaled to sum to 1."""
SMALLEST = 20
"""The pixels of the shorter side that the default window and scales take: a window of 5 after two halvings."""
_C1, _C2 = 0.01**2, 0.03**2
"""Constants that keep the ratios finite where an image is flat or black; for pixels in [0, 1]."""
_VALUES = 2**20
"""How many pixel values of each image of a pair are in memory at a time."""


def ms_ssim(
    a: NDArray[np.uint8], b: NDArray[np.uint8], *, scales: int = 3, kernel: int = 5, sigma: float = 0.7
) -> NDArray[np.float64]:
    """The similarity of each pair of images a and b, (B, H, W, C) uint8: (B,) in [0, 1], 1 for equal images.

    A scale whose mean contrast–structure is negative (one image is the other's negative) counts as 0.

    Args:
        scales: how often the size is halved, plus one; 1 is plain SSIM.
        kernel: width of the Gaussian window in pixels, odd.
        sigma: its standard deviation in pixels.

    Raises `InvalidValue` when shapes differ, or the images are too small for the scales.
    """
    check_images(a)
    check_images(b)
    if a.shape != b.shape:
        raise InvalidValue(f"images of shapes {a.shape} and {b.shape} are no pairs: give as many, of the same size")
    _check_window(min(a.shape[1:3]), scales, kernel, sigma)
    step = max(1, _VALUES // math.prod(a.shape[1:]))
    parts = [
        _ms_ssim(_unit(a[i : i + step]), _unit(b[i : i + step]), scales, kernel, sigma) for i in range(0, len(a), step)
    ]
    return np.concatenate([np.empty(0), *(part.numpy() for part in parts)])


def diversity(images: NDArray[np.uint8], labels: IntArray, *, pairs: int = 200, seed: int = 0) -> dict[int, float]:
    """Mean similarity of two images of a class, by label: the lower, the more diverse (Odena et al. 2017, section 4.2).

    Images are (N, H, W, C) uint8, labels (N,). Pairs are of different images, drawn without replacement, or all if
    there are no more than `pairs`; a class's are drawn by the seed and its label alone.

    Raises `InvalidValue` for a class with a single image, and as `ms_ssim` does.
    """
    check_labelled(images, labels)
    if pairs < 1:
        raise InvalidValue(f"{pairs} pairs have no mean: give at least 1, better hundreds")
    found = {}
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InvalidValue(f"class {label} has a single image, so no pair: give at least 2 of it, or leave it out")
        first, second = _pairs(len(rows), pairs, numpy_rng(seed, "subset", label))
        found[label] = float(ms_ssim(images[rows[first]], images[rows[second]]).mean())
    return found


def _pairs(count: int, wanted: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different pairs i < j < count: the t-th of all, in the order (0, 1), (0, 2), (1, 2), (0, 3), …"""
    total = count * (count - 1) // 2
    t = np.arange(total) if total <= wanted else rng.choice(total, wanted, replace=False)
    j = ((1 + np.sqrt(1 + 8 * t)) // 2).astype(np.int64)
    return t - j * (j - 1) // 2, j


def _check_window(size: int, scales: int, kernel: int, sigma: float) -> None:
    if not 1 <= scales <= len(WEIGHTS) or kernel < 3 or kernel % 2 == 0 or not sigma > 0:
        raise InvalidValue(
            f"scales = {scales}, kernel = {kernel}, sigma = {sigma}: give from 1 to {len(WEIGHTS)} scales, an odd "
            "kernel of at least 3, and a sigma above 0"
        )
    needed = kernel * 2 ** (scales - 1)
    if size < needed:
        fitting = [
            f"{s} (from {kernel * 2 ** (s - 1)} pixels)" for s in range(1, scales) if size >= kernel * 2 ** (s - 1)
        ]
        remedy = (
            f"scales = {' or '.join(reversed(fitting))}" if fitting else f"a kernel of at most {size}, and one scale"
        )
        raise InvalidValue(
            f"images of {size} pixels are too small for {scales} scales of a {kernel}-pixel window, which need {needed}"
            f": give larger images, or {remedy}"
        )


def _unit(images: NDArray[np.uint8]) -> Tensor:
    """Images as (B, C, H, W) float64 in [0, 1]: variances are small differences of large numbers."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2) / 255.0)


def _ms_ssim(a_BCHW: Tensor, b_BCHW: Tensor, scales: int, kernel: int, sigma: float) -> Tensor:
    weights = torch.tensor(WEIGHTS[:scales], dtype=torch.float64)
    weights /= weights.sum()
    similarity = torch.ones(len(a_BCHW), dtype=torch.float64)
    for scale, weight in enumerate(weights):
        if scale:
            a_BCHW, b_BCHW = F.avg_pool2d(a_BCHW, 2), F.avg_pool2d(b_BCHW, 2)
        luminance, structure = _maps(a_BCHW, b_BCHW, kernel, sigma)
        at_last = scale == scales - 1  # only there does luminance count
        mean = (luminance * structure if at_last else structure).mean(dim=(1, 2, 3))  # (B,)
        similarity *= mean.clamp(min=0) ** weight
    return similarity


def _maps(a_BCHW: Tensor, b_BCHW: Tensor, kernel: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, of each window within the images (Wang et al. 2004, Eq. 6 and 13)."""
    stacked = torch.cat((a_BCHW, b_BCHW, a_BCHW**2, b_BCHW**2, a_BCHW * b_BCHW))
    mean_a, mean_b, square_a, square_b, product = _blur(stacked, kernel, sigma).chunk(5)
    var_a, var_b, cov = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, (2 * cov + _C2) / (var_a + var_b + _C2)


def _blur(x_BCHW: Tensor, kernel: int, sigma: float) -> Tensor:
    """Means over Gaussian windows, (B, C, H − kernel + 1, W − kernel + 1)."""
    offsets = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    window = torch.exp(-(offsets**2) / (2 * sigma**2))
    window /= window.sum()
    b, c, h, w = x_BCHW.shape
    flat = x_BCHW.reshape(b * c, 1, h, w)
    blurred = F.conv2d(F.conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return blurred.view(b, c, *blurred.shape[2:])
