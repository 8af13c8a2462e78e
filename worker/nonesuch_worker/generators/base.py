"""What every generator is to the rest of the worker."""

from typing import Protocol

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.offers import GeneratorInfo
from nonesuch_worker.finite import IMAGES, finite_rows, require_finite


class Generator(Protocol):
    """A frozen class-conditional generator on one device.

    It is in eval mode, none of its weights requires a gradient, and a sample depends on its own latent and label alone.
    """

    @property
    def info(self) -> GeneratorInfo:
        """What the catalogue says about the generator."""

    @property
    def device(self) -> torch.device:
        """The device that its weights are on, and that it wants its arguments on."""

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """Make images.

        Args:
            z: (B, z_dim) float32. Truncation and σ are in it already (`nonesuch_worker.latents`).
            labels: (B,) int64 in [0, number of classes).
            truncation: how z was truncated, in (0, 1], or None: for generators whose statistics depend on it.

        Returns:
            (B, C, H, W) float in [-1, 1]; differentiable in z if `info.differentiable`.
        """


def check_arguments(info: GeneratorInfo, z: Tensor, labels: Tensor) -> None:
    """Raise `InvalidValue` unless there are B latents of the generator's length and a label for each."""
    if z.ndim != 2 or z.shape[1] != info.z_dim or labels.shape != z.shape[:1]:
        raise InvalidValue(
            f"latents {tuple(z.shape)} and labels {tuple(labels.shape)} do not fit generator {info.id!r}: "
            f"give latents (B, {info.z_dim}) and labels (B,)"
        )


def to_uint8_NHWC(x_NCHW: Tensor) -> Tensor:
    """Images as they are minted: round((x + 1) · 127.5), clamped to 0..255.

    Args:
        x_NCHW: (B, C, H, W) float in [-1, 1].

    Returns:
        (B, H, W, C) uint8, contiguous, on the same device.

    Raises:
        InvalidValue: an image is not finite. Blocks until that is known.
    """
    images, finite = rounded(x_NCHW)
    require_finite(finite, IMAGES)
    return images


def rounded(x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The images that `to_uint8_NHWC` makes, and which of them are finite, (B,) bool, for whoever asks later: does not
    block."""
    levels = x_NCHW.detach().float().add(1).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), finite_rows(x_NCHW)


def from_uint8_NHWC(images_NHWC: Tensor) -> Tensor:
    """Minted images as a classifier of generated images takes them: the inverse of `to_uint8_NHWC`.

    Args:
        images_NHWC: (B, H, W, C) uint8.

    Returns:
        (B, C, H, W) float32 in [-1, 1], on the same device.
    """
    return images_NHWC.permute(0, 3, 1, 2).float().div(127.5).sub(1)
