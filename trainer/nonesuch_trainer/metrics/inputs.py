"""What the metrics are given, checked: features, images, labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


def feature_pair(a: FloatArray, b: FloatArray, *, least: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two sets of features, checked: (N, d) and (M, d), in float64.

    Raises:
        InvalidValue: they are not matrices of the same width, one has fewer than `least` rows, or a value is not
            finite.
    """
    first, second = (np.asarray(features, dtype=np.float64) for features in (a, b))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not first.shape[1]:
        raise InvalidValue(
            f"features of shapes {first.shape} and {second.shape} cannot be compared: give (N, d) and (M, d), both "
            "from the same network"
        )
    for features in (first, second):
        if len(features) < least:
            raise InvalidValue(
                f"features of {len(features)} images are too few: give at least {least}, better thousands"
            )
        if not np.isfinite(features).all():
            row, column = np.argwhere(~np.isfinite(features))[0]
            raise InvalidValue(
                f"feature {column} of image {row} is {features[row, column]}: every feature must be finite, so look at "
                "what the network was given"
            )
    return first, second


def check_images(images: NDArray[np.uint8]) -> None:
    """Raises `InvalidValue` unless these are uint8 images (N, H, W, C)."""
    if images.ndim != 4 or images.dtype != np.uint8:
        raise InvalidValue(f"images of shape {images.shape} and type {images.dtype}: give (N, H, W, C) of uint8")


def check_labelled(images: NDArray[np.uint8], labels: IntArray) -> None:
    """Raises `InvalidValue` unless there are images, (N, H, W, C) uint8, and a label for each, (N,)."""
    check_images(images)
    if not len(images) or labels.shape != (len(images),):
        raise InvalidValue(f"{len(images)} images and labels of shape {labels.shape}: give a label for each, (N,)")
