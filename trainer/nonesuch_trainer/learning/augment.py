"""Augmentation of a whole batch at a time, on its device, in uint8."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nonesuch_trainer.settings.learning import Augment


def augment(images_NHWC: Tensor, wanted: Augment, rng: torch.Generator) -> Tensor:
    """Shift and mirror each image of (B, H, W, C) uint8 by itself.

    `rng` is a generator of the CPU, whatever the images' device: every device gets the same numbers.
    """
    if not wanted.shift and not wanted.hflip:
        return images_NHWC
    b, h, w, _ = images_NHWC.shape
    device = images_NHWC.device
    pad = wanted.shift
    offsets = torch.randint(2 * pad + 1, (2, b, 1), generator=rng).to(device)  # (2, B, 1)
    ys = torch.arange(h, device=device) + offsets[0]  # (B, H) rows of the padded image
    xs = torch.arange(w, device=device).expand(b, w)  # (B, W)
    if wanted.hflip:
        mirrored = (torch.rand(b, 1, generator=rng) < 0.5).to(device)  # (B, 1)
        xs = torch.where(mirrored, w - 1 - xs, xs)
    xs = xs + offsets[1]
    padded = F.pad(images_NHWC, (0, 0, pad, pad, pad, pad))  # (B, H + 2p, W + 2p, C)
    which = torch.arange(b, device=device)
    return padded[which[:, None, None], ys[:, :, None], xs[:, None, :]]  # (B, H, W, C)
