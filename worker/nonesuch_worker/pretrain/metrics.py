"""Cheap numbers that tell a collapsed generator from a healthy one, without a classifier.

They watch a run; they do not rank generators: only what can be learned from the images does that.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.realdata import RealImages
from nonesuch_worker.generators.compact import CompactGenerator
from nonesuch_worker.pretrain.grids import to_uint8
from nonesuch_worker.pretrain.randomness import Stream, generator_for


def spread(images: NDArray[np.uint8], labels: NDArray[np.int32], classes: int) -> NDArray[np.float64]:
    """Per class, the variance of the pixels around the class's mean image, summed over pixels: (classes,)."""
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    return np.array([flat[labels == k].var(axis=0, dtype=np.float64).sum() for k in range(classes)])


@torch.no_grad()
def spread_ratio(network: CompactGenerator, real: RealImages, *, per_class: int = 200, seed: int = 0) -> float:
    """Spread of generated images over that of real ones, the mean over classes. 1 is as diverse; 0 is one image."""
    config = network.config
    z = torch.randn(config.classes * per_class, config.z_dim, generator=generator_for(seed, Stream.METRICS))
    labels = torch.arange(config.classes).repeat_interleave(per_class)
    fake = np.concatenate([to_uint8(network(z[i : i + 500], labels[i : i + 500])) for i in range(0, len(z), 500)])
    made = spread(fake, labels.numpy().astype(np.int32), config.classes)
    return float(np.mean(made / spread(real.images, real.labels, config.classes)))
