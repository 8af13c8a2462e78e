"""The last convolution: to the few channels of an image.

A 3×3 convolution to 3 channels leaves most of a processor's vector lanes empty. Done for 2×2 pixels at once, as a 4×4
convolution with stride 2 to four times the channels, it does 16/9 of the products in lanes that are four times as full.

Shapes: B samples, C channels in, O channels of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Convolution

FEW = 4
"""The most channels of an image for which four pixels are made at once, on a CPU."""


def to_pixels(weight: Tensor, bias: Tensor, *, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The faster form of a 3×3 convolution that pads by 1: (B, C, H, W) to (B, O, H, W), H and W even.

    Args:
        weight: (O, C, 3, 3).
        bias: (O,).
        device: where it will run.
        dtype: what it computes in.
    """
    if device.type == "cpu" and len(weight) <= FEW:
        return FourPixels(weight, bias, dtype=dtype)
    return Convolution(weight, bias, dtype=dtype, padding=1)


class FourPixels(nn.Module):
    """A 3×3 convolution that makes 2×2 pixels at once."""

    def __init__(self, weight: Tensor, bias: Tensor, *, dtype: torch.dtype) -> None:
        super().__init__()
        # As `pixel_shuffle` wants them: output o, row r, column c is channel 4 o + 2 r + c.
        shifted = [F.pad(weight.detach(), (c, 1 - c, r, 1 - r)) for r in (0, 1) for c in (0, 1)]  # (O, C, 4, 4) each
        kernel = torch.stack(shifted, dim=1).flatten(0, 1)  # (4 O, C, 4, 4)
        self.conv = Convolution(kernel, bias.detach().repeat_interleave(4), dtype=dtype, stride=2, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x_NCHW), 2)
