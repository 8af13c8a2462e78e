"""The smallest pretraining run that has everything a large one has."""

import numpy as np

from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.networks.compact import CompactConfig
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import DiscriminatorConfig

SMALL = CompactConfig(image_size=8, channels=2, classes=3, z_dim=12, embedding_dim=4, widths=(8, 8, 4))
TINY = PretrainConfig(
    generator=SMALL,
    discriminator=DiscriminatorConfig(widths=(4, 8)),
    iterations=6,
    decay_iterations=2,
    batch=8,
    flip=True,
    n_dis=2,
    standing_batches=2,
    standing_batch=8,
    precision="float32",
    device="cpu",
    checkpoint_every=100,
    grid_every=2,
    log_every=2,
)


def changed(**values: object) -> PretrainConfig:
    """`TINY` with other values, checked."""
    return PretrainConfig.model_validate(TINY.model_dump() | values)


def noise() -> RealImages:
    """30 images of noise in three classes."""
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 2), dtype=np.uint8)
    return RealImages(images, np.arange(30, dtype=np.int32) % 3, ("a", "b", "c"), "noise")
