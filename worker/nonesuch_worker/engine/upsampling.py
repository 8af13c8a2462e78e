"""Nearest-neighbour upsampling by 2 and a 3×3 convolution, computed on the small image.

After upsampling, each 3×3 window sees only 2×2 different pixels of the small image. Two ways to use that, beside the
plain one with its 36 products of channels for each small pixel:

- 16 products: which of the four a window is depends on its phase (even or odd row, even or odd column), and each phase
  is a 2×2 convolution. All four together are one transposed convolution with stride 2 and a 4×4 kernel.
- 9 products: along one axis, with d[i] = x[i] - x[i-1] and w = w₀ + w₁ + w₂,

      out[2i]   = w₀ x[i-1] + (w₁ + w₂) x[i]  =  w x[i] - w₀ d[i]
      out[2i+1] = (w₀ + w₁) x[i] + w₂ x[i+1]  =  w x[i] + w₂ d[i+1]

  three products where the phases take four, so 3 · 3 in the plane. The differences and sums cost passes over memory:
  it wins where the image is small and has many channels.

Shapes: B samples, C channels in and O out, H × W the small image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.convolutions import Pointwise, TransposedConvolution

NINE_PRODUCTS_SIDE = 16
"""The largest side of the small image, px, at which the nine products are faster than the phases on a CPU."""
NINE_PRODUCTS_CHANNELS = 256
"""The fewest channels with which the nine products are faster than the phases, up to `NINE_PRODUCTS_SIDE`."""


def upsampled_conv(
    weight: Tensor, bias: Tensor | None, *, side: int, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """The faster form of `conv(upsample(x))`, for the device that it will run on.

    Args:
        weight: (O, C, 3, 3) of the convolution, which pads by 1.
        bias: (O,).
        side: H of the small image, px.
        device: where it will run.
        dtype: what it computes in.

    Returns:
        (B, C, H, W) to (B, O, 2H, 2W).
    """
    if device.type == "cpu" and side <= NINE_PRODUCTS_SIDE and weight.shape[1] >= NINE_PRODUCTS_CHANNELS:
        return NineProducts(weight, bias, dtype=dtype)
    return phases(weight, bias, dtype=dtype)


def phases(weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype) -> TransposedConvolution:
    """The four 2×2 phase convolutions as one transposed convolution, of 16 products.

    Upsampling is a transposed convolution with ones in a 2×2 kernel, and the 3×3 convolution is one with its kernel
    turned round: one after the other, their kernels convolved.
    """
    turned = weight.detach().flip(2, 3).transpose(0, 1)  # (C, O, 3, 3)
    kernel = sum(F.pad(turned, (dx, 1 - dx, dy, 1 - dy)) for dy in (0, 1) for dx in (0, 1))
    assert isinstance(kernel, Tensor)
    return TransposedConvolution(kernel, bias, dtype=dtype, stride=2, padding=1)  # (C, O, 4, 4)


class NineProducts(nn.Module):
    """`conv(upsample(x))` in nine products of channels for each small pixel."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype) -> None:
        super().__init__()
        taps = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # of x[i], d[i], d[i+1]
        w = torch.einsum("ai,bj,ocij->aboc", taps, taps, weight.detach().float().cpu())  # (3, 3, O, C)
        self._out = weight.shape[0]
        self.plain = Pointwise(_stacked(w[:1, 0]), bias, dtype=dtype)
        self.across = Pointwise(_stacked(w[0, 1:]), dtype=dtype)
        self.down = Pointwise(_stacked(w[1:, 0]), dtype=dtype)
        self.both = Pointwise(_stacked(w[1:, 1:].flatten(0, 1)), dtype=dtype)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x = x_NCHW.permute(0, 2, 3, 1)  # (B, H, W, C): every step below runs along contiguous channels
        batch, height, width, _ = x.shape
        d_across = _differences(x, dim=2)  # (B, H, W+1, C)
        plain = _apply(self.plain, x)  # (B, H, W, O)
        across = _apply(self.across, d_across)  # (B, H, W+1, 2 O)
        down = _apply(self.down, _differences(x, dim=1))  # (B, H+1, W, 2 O)
        both = _apply(self.both, _differences(d_across, dim=1))  # (B, H+1, W+1, 4 O)
        out = self._out
        y = x.new_empty(batch, height, 2, width, 2, out)
        for row in (0, 1):
            for column in (0, 1):
                phase = plain + across[:, :, column : column + width, column * out : (column + 1) * out]
                phase += down[:, row : row + height, :, row * out : (row + 1) * out]
                corner = both[:, row : row + height, column : column + width]
                y[:, :, row, :, column] = phase + corner[..., (2 * row + column) * out : (2 * row + column + 1) * out]
        return y.view(batch, 2 * height, 2 * width, out).permute(0, 3, 1, 2)


def _differences(x_NHWC: Tensor, dim: int) -> Tensor:
    """x[i] - x[i-1] along an axis of n pixels, with 0 beyond its ends: n+1 of them."""
    edges = [0, 0] * (3 - dim) + [1, 1]
    return F.pad(x_NHWC, edges).diff(dim=dim)


def _apply(conv: Pointwise, x_NHWC: Tensor) -> Tensor:
    y: Tensor = conv(x_NHWC.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def _stacked(w: Tensor) -> Tensor:
    """n weights (n, O, C) as those of one 1×1 convolution with n O outputs."""
    return w.flatten(0, 1)[:, :, None, None]


def add_upsampled(big_NCHW: Tensor, small_NCHW: Tensor) -> Tensor:
    """`big += upsample(small)`, without making the upsampled image. Returns `big_NCHW`.

    Args:
        big_NCHW: (B, C, 2H, 2W) in channels_last; is changed.
        small_NCHW: (B, C, H, W) in channels_last.
    """
    batch, channels, height, width = small_NCHW.shape
    pixels = big_NCHW.permute(0, 2, 3, 1).view(batch, height, 2, width, 2, channels)
    pixels.add_(small_NCHW.permute(0, 2, 3, 1)[:, :, None, :, None])
    return big_NCHW
