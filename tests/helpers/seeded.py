"""Random numbers that are always the same, and the gradient of images."""

from collections.abc import Callable

import torch
from torch import Tensor


def some(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1), float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(*shape: int, seed: int = 0) -> Tensor:
    """The same as (B, C, H, W) in channels_last."""
    return some(*shape, seed=seed).contiguous(memory_format=torch.channels_last)


def z_gradient(images_of: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """What a mixture of all pixels, each with a weight of its own, changes by with z: (B, Z)."""
    z = z.clone().requires_grad_()
    made = images_of(z)
    (gradient,) = torch.autograd.grad((made * some(*made.shape, seed=2)).sum(), z)
    return gradient
