"""A 3×3 convolution in two thirds of the products (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308).

Down a column of pixels x with the three rows g of a kernel, two outputs take four products instead of six:

    y[2i]   = m + p + (x[2i-1] - x[2i+1]) g₀        m = (x[2i] + x[2i+1]) (g₀ + g₁ + g₂) / 2
    y[2i+1] = m - p + (x[2i+2] - x[2i]) g₂          p = (x[2i+1] - x[2i]) (g₀ - g₁ + g₂) / 2

A product of a pixel with a row of the kernel is a 1×3 convolution along the rows of the image. The sums cost passes
over memory, which pay where there are many channels.

Shapes: B samples, C channels in and O out, H × W pixels, H even.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Convolution

CHANNELS = 256
"""The fewest channels with which two rows at once are faster than the plain convolution, in float32 on a CPU."""
SIDES = range(16, 33)
"""The sides of an image, px, at which two rows at once are faster, from `CHANNELS` channels on."""


def conv3x3(weight: Tensor, bias: Tensor | None, *, side: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The faster form of a 3×3 convolution that pads by 1, for the device that it will run on.

    Args:
        weight: (O, C, 3, 3).
        bias: (O,).
        side: H, px.
        device: where it will run.
        dtype: what it computes in.

    Returns:
        (B, C, H, W) to (B, O, H, W).
    """
    wins = device.type == "cpu" and dtype == torch.float32 and weight.shape[1] >= CHANNELS and side in SIDES
    if wins and side % 2 == 0:
        return RowPairs(weight, bias, dtype=dtype)
    return Convolution(weight, bias, dtype=dtype, padding=1)


class RowPairs(nn.Module):
    """A 3×3 convolution that makes two rows at once."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype) -> None:
        super().__init__()
        first, middle, last = torch.split(weight.detach(), 1, dim=2)  # (O, C, 1, 3) each

        def along_rows(w: Tensor, b: Tensor | None = None) -> Convolution:
            return Convolution(w, b, dtype=dtype, padding=(0, 1))

        self.both = along_rows((first + middle + last) / 2, bias)
        self.opposite = along_rows((first - middle + last) / 2)
        self.above = along_rows(-first)
        self.below = along_rows(last)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_NCHW.shape
        pairs = x_NCHW.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width, channels)
        even, odd = pairs.unbind(2)  # (B, H/2, W, C) each
        odd_steps = F.pad(odd, (0, 0, 0, 0, 1, 0)).diff(dim=1)  # x[2i+1] - x[2i-1]
        even_steps = F.pad(even, (0, 0, 0, 0, 0, 1)).diff(dim=1)  # x[2i+2] - x[2i]
        both, opposite = _apply(self.both, even + odd), _apply(self.opposite, odd - even)
        y = both.new_empty(batch, height // 2, 2, width, both.shape[-1])
        y[:, :, 0] = _apply(self.above, odd_steps).add_(both).add_(opposite)
        y[:, :, 1] = _apply(self.below, even_steps).add_(both).sub_(opposite)
        return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _apply(conv: Convolution, x_NHWC: Tensor) -> Tensor:
    y: Tensor = conv(x_NHWC.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)
