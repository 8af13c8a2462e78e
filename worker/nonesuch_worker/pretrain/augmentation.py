"""What is done to images before the discriminator sees them. Differentiable, and a function of random numbers given.

`diffaugment` is DiffAugment (Zhao, Liu, Lin, Zhu & Han 2020, section 3.2 and appendix): real and generated images go
through the same random changes, in both networks' steps, so that the changes do not leak into the generator.
`perturb` is the T of consistency regularisation (Zhang, Zhang, Odena & Lee 2020, section 3.1).

Random numbers are rows of U[0, 1), one for each image, so that a process that has a slice of the batch takes a slice of
the numbers.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from nonesuch_worker.pretrain.config import Augmentation

DIFFAUGMENT_NUMBERS = 7
"""The numbers of an image in `diffaugment`: brightness, saturation, contrast, translation y, x, cutout y, x."""
PERTURB_NUMBERS = 3
"""The numbers of an image in `perturb`: mirrored or not, shift y, x."""


def diffaugment(x_NCHW: Tensor, policy: Collection[Augmentation], numbers: Tensor) -> Tensor:
    """Change images as the policy's names say; each image's changes are its own.

    `color`: brightness by up to ±0.5, saturation by a factor in [0, 2), contrast by one in [0.5, 1.5).
    `translation`: by whole pixels, up to an eighth of each side; zeros come in.
    `cutout`: a square of half the side becomes zeros; its middle is anywhere, so part of it may lie outside.

    Args:
        x_NCHW: (B, C, H, W) float in [-1, 1].
        numbers: (B, 7) in [0, 1), on the same device.

    Returns:
        (B, C, H, W) float. Colours may leave [-1, 1].
    """
    brightness, saturation, contrast, down, right, row, column = numbers.unbind(1)  # each (B,)
    if "color" in policy:
        x_NCHW = x_NCHW + _each(brightness - 0.5)
        grey = x_NCHW.mean(dim=1, keepdim=True)
        x_NCHW = (x_NCHW - grey) * _each(2 * saturation) + grey
        middle = x_NCHW.mean(dim=(1, 2, 3), keepdim=True)
        x_NCHW = (x_NCHW - middle) * _each(0.5 + contrast) + middle
    height, width = x_NCHW.shape[2:]
    if "translation" in policy:
        down, right = _whole(down, int(height / 8 + 0.5)), _whole(right, int(width / 8 + 0.5))
        x_NCHW = _shift(x_NCHW, down, right, fill_zeros=True)
    if "cutout" in policy:
        cut = _inside(height, row)[:, None, :, None] & _inside(width, column)[:, None, None, :]  # (B, 1, H, W)
        x_NCHW = x_NCHW.masked_fill(cut, 0)
    return x_NCHW


def perturb(x_NCHW: Tensor, numbers: Tensor, *, flip: bool) -> Tensor:
    """T(x): shift each image by up to 2 px (4 px from 64 px on), the border repeated; mirror half of them if `flip`.

    `numbers` is (B, 3) in [0, 1). Returns (B, C, H, W).
    """
    mirrored, down, right = numbers.unbind(1)
    most = 4 if x_NCHW.shape[2] >= 64 else 2
    if flip:
        x_NCHW = torch.where(_each(mirrored < 0.5), x_NCHW.flip(3), x_NCHW)
    return _shift(x_NCHW, _whole(down, most), _whole(right, most), fill_zeros=False)


def _each(per_image: Tensor) -> Tensor:
    """A number for each image, (B,), as (B, 1, 1, 1)."""
    return per_image.view(-1, 1, 1, 1)


def _whole(numbers: Tensor, most: int) -> Tensor:
    """U[0, 1) to whole numbers in [-most, most], all as likely."""
    return (numbers * (2 * most + 1)).floor().long() - most


def _shift(x_NCHW: Tensor, down: Tensor, right: Tensor, *, fill_zeros: bool) -> Tensor:
    """Move each image by (B,) whole pixels; what comes in is zeros, or the border repeated."""
    batch, channels, height, width = x_NCHW.shape
    rows = torch.arange(height, device=x_NCHW.device) - down[:, None]  # (B, H): where each row comes from
    columns = torch.arange(width, device=x_NCHW.device) - right[:, None]  # (B, W)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]  # (B, H, W)
    index = source.view(batch, 1, -1).expand(-1, channels, -1)
    moved = x_NCHW.flatten(2).gather(2, index).view_as(x_NCHW)
    if not fill_zeros:
        return moved
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return moved.masked_fill(~inside[:, None], 0)


def _inside(side: int, numbers: Tensor) -> Tensor:
    """(B, side) bool: the pixels within a stretch of half the side whose middle is drawn from the whole side."""
    length = (side + 1) // 2
    first = (numbers * (side + 1 - length % 2)).floor().long() - length // 2  # (B,)
    pixels = torch.arange(side, device=numbers.device)
    return (pixels >= first[:, None]) & (pixels < first[:, None] + length)
