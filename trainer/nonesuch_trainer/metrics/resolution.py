"""Discriminability by resolution (Odena et al. 2017, section 4.1).

A generator that only enlarges small images loses nothing when its images are made small; one whose images carry detail
of their own, as real ones do, is told apart worse and worse. So read the curve beside that of real images.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.inputs import IntArray, check_labelled

SMALLEST = 4
"""The side in pixels at which the default sizes end."""
_BATCH = 500


def discriminability(
    images: NDArray[np.uint8],
    labels: IntArray,
    classify: Callable[[NDArray[np.uint8]], IntArray],
    sizes: Iterable[int] | None = None,
) -> dict[int, float]:
    """A classifier's accuracy, in [0, 1], on images that were reduced to each size and enlarged again.

    Both steps are bilinear, the first with antialiasing, and end in uint8. The full size leaves images as they are.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,) what they were meant to be.
        classify: gives the labels (B,) of images (B, H, W, C) uint8; called with up to 500 at a time.
        sizes: pixels of the shorter side, from 1 to the full size. Default: the full size, halved (rounded up) as
            long as it is at least 4: 28, 14, 7, 4.

    Returns:
        The accuracies by size, the largest first.

    Raises:
        InvalidValue: a size is impossible, or images or labels have the wrong shape.
    """
    check_labelled(images, labels)
    full = min(images.shape[1:3])
    wanted = halvings(full) if sizes is None else sorted(set(sizes), reverse=True)
    impossible = [size for size in wanted if not 1 <= size <= full]
    if impossible or not wanted:
        raise InvalidValue(f"sizes {impossible or wanted} of images of {full} pixels: give sizes from 1 to {full}")
    return {size: _accuracy(images, labels, classify, size) for size in wanted}


def halvings(full: int) -> list[int]:
    """The full size, its half rounded up, the half of that, … down to `SMALLEST`; at least the full size."""
    sizes = [full]
    while (half := (sizes[-1] + 1) // 2) >= SMALLEST and half < sizes[-1]:
        sizes.append(half)
    return sizes


def reduced(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images (B, H, W, C) reduced until their shorter side has `size` pixels, and enlarged to H×W again."""
    full_hw = images.shape[1:3]
    if size == min(full_hw):
        return images
    small_hw = [round(side * size / min(full_hw)) for side in full_hw]
    x_NCHW = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)  # a copy: they may be read-only
    small = F.interpolate(x_NCHW, size=small_hw, mode="bilinear", antialias=True).round()
    again = F.interpolate(small, size=list(full_hw), mode="bilinear").round().clamp(0, 255)
    return again.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()


def _accuracy(
    images: NDArray[np.uint8], labels: IntArray, classify: Callable[[NDArray[np.uint8]], IntArray], size: int
) -> float:
    correct = 0
    for start in range(0, len(images), _BATCH):
        rows = slice(start, start + _BATCH)
        answers = np.asarray(classify(reduced(images[rows], size)))
        if answers.shape != labels[rows].shape:
            raise InvalidValue(
                f"classify gave {answers.shape} for {len(labels[rows])} images: it must give one label for each, (B,)"
            )
        correct += int((answers == labels[rows]).sum())
    return correct / len(images)
