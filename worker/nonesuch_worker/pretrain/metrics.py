"""Cheap numbers that tell a collapsed generator from a healthy one, without a classifier.

They watch a run; they do not rank generators: only what can be learned from the images does that.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.networks.compact import CompactGenerator
from nonesuch_worker.pretrain.randomness import RandomStream, generator_for


@dataclass(frozen=True)
class SpreadRatio:
    """Spread of generated images over that of real ones. 1 is as diverse; 0 is one image."""

    value: float | None
    """The mean over the classes whose real images differ; None if those of no class do."""
    alike: tuple[int, ...]
    """The labels of the other classes: one real image of each, or copies of it, have no spread to compare with."""


def spread(images: NDArray[np.uint8], labels: NDArray[np.int32], classes: int) -> NDArray[np.float64]:
    """The variance of the pixels around the mean image of each class, summed over pixels: (classes,); 0 for a class of
    one image or of none."""
    return np.array([_spread(images, np.flatnonzero(labels == k)) for k in range(classes)])


def _spread(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> float:
    """The spread of some images, summed in whole numbers and in pieces: nothing is rounded, and large images fit."""
    if not len(rows):
        return 0.0
    sums = np.zeros(images[0].size, np.int64)
    squares = np.zeros(images[0].size, np.int64)
    for start in range(0, len(rows), 128):
        flat = images[rows[start : start + 128]].reshape(-1, images[0].size).astype(np.int64)
        sums += flat.sum(axis=0)
        squares += np.square(flat).sum(axis=0)
    return float((squares / len(rows) - np.square(sums / len(rows))).sum() / 255**2)


@torch.no_grad()
def spread_ratio(network: CompactGenerator, real: RealImages, *, per_class: int = 200, seed: int = 0) -> SpreadRatio:
    """Compare the network's images, `per_class` of each class, with the real ones."""
    config = network.config
    z = torch.randn(config.classes * per_class, config.z_dim, generator=generator_for(seed, RandomStream.METRICS))
    labels = torch.arange(config.classes).repeat_interleave(per_class)
    device = next(network.parameters()).device
    parts = [(z[i : i + 500].to(device), labels[i : i + 500].to(device)) for i in range(0, len(z), 500)]
    fake = np.concatenate([to_uint8_NHWC(network(*part)).cpu().numpy() for part in parts])
    made = spread(fake, labels.numpy().astype(np.int32), config.classes)
    theirs = spread(real.images, real.labels, config.classes)
    differ = theirs > 0
    value = float(np.mean(made[differ] / theirs[differ])) if differ.any() else None
    return SpreadRatio(value, tuple(np.flatnonzero(~differ).tolist()))
