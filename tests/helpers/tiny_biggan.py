"""BigGANs small enough for a test; upstream's network and our minting form, asked the same."""

from typing import Any

import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from torch import Tensor
from torch.nn import functional as F

from nonesuch_worker.engine.biggan import MintingBigGAN

SMALLEST = BigGANConfig(
    output_dim=8,
    z_dim=8,
    class_embed_dim=8,
    channel_width=8,
    num_classes=5,
    layers=[(True, 16, 8), (False, 8, 4), (False, 4, 2), (False, 2, 1)],
    attention_layer_position=1,
)
TINY = BigGANConfig(
    output_dim=16,
    z_dim=8,
    class_embed_dim=8,
    channel_width=8,
    num_classes=5,
    layers=[(True, 16, 8), (False, 8, 8), (True, 8, 4), (False, 4, 2), (False, 2, 1)],
    attention_layer_position=2,
)
WIDE = BigGANConfig(
    output_dim=16,
    z_dim=8,
    class_embed_dim=8,
    channel_width=64,
    num_classes=5,
    layers=[(True, 16, 16), (False, 16, 8), (False, 8, 8), (True, 8, 4), (False, 4, 2), (False, 2, 1)],
    attention_layer_position=3,
)
"""Every kind of block, and channels enough, 256 and then 128, for both ways to convolve an upsampled image."""


def changed(config: BigGANConfig, **values: Any) -> BigGANConfig:
    """A configuration with other values."""
    return BigGANConfig(**{**vars(config), **values})


def rows(config: BigGANConfig, count: int) -> tuple[Tensor, Tensor]:
    """Latents (count, Z) float32 and labels (count,) int64, always the same."""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_dim, generator=rng), torch.randint(config.num_classes, (count,), generator=rng)


def upstream_images(model: BigGAN, z: Tensor, labels: Tensor, truncation: float) -> Tensor:
    """What upstream makes, which takes one-hot rows of float: (B, 3, H, W) in [-1, 1]."""
    images: Tensor = model(z, F.one_hot(labels, model.config.num_classes).float(), truncation)
    return images


def mint(form: MintingBigGAN, z: Tensor, labels: Tensor, truncation: float = 0.5) -> Tensor:
    """What our minting form makes: the same."""
    images: Tensor = form(z, labels, form.norms.statistics(truncation))
    return images
