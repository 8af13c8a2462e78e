"""Convolutions with numbers that do not change, in channels_last.

Shapes: B samples, C channels in and O out, H × W pixels, D numbers in.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.packing import PackedWeight, runs_packed

_ENOUGH_IMAGES = 16
"""The fewest images for which PyTorch takes oneDNN for a 1×1 convolution on one thread (`use_mkldnn` in ATen's
Convolution.cpp)."""


class FixedLayer(nn.Module):
    """A layer whose weight and bias do not change, in the precision that is computed in. They are buffers: no optimiser
    sees them."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype) -> None:
        """Copies weight (O, C, h, w), or (C, O, h, w) of a transposed convolution, and bias (O,)."""
        super().__init__()
        copy = weight.detach().to(dtype, copy=True)  # `contiguous` would leave a 1×1 kernel where it is
        self.register_buffer("weight", copy.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype).clone())
        self._packed: PackedWeight | None = None

    def _convolved(self, x_NCHW: Tensor, *, padding: tuple[int, int] = (0, 0), stride: int = 1) -> Tensor:
        """The convolution of x with the packed weight; the first call packs it."""
        if self._packed is None:
            self._packed = PackedWeight(self.weight, self.bias, padding=padding, stride=stride, x_NCHW=x_NCHW)
        return self._packed.convolve(x_NCHW)


class Convolution(FixedLayer):
    """A convolution."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        dtype: torch.dtype,
        padding: int | tuple[int, int],
        stride: int = 1,
    ) -> None:
        """`padding`: of height and width, px."""
        super().__init__(weight, bias, dtype=dtype)
        self._padding = (padding, padding) if isinstance(padding, int) else padding
        self._stride = stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if runs_packed(x_NCHW):
            return self._convolved(x_NCHW, padding=self._padding, stride=self._stride)
        return F.conv2d(x_NCHW, self.weight, self.bias, self._stride, self._padding)


class TransposedConvolution(FixedLayer):
    """A transposed convolution."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, *, dtype: torch.dtype, padding: int, stride: int
    ) -> None:
        super().__init__(weight, bias, dtype=dtype)
        self._padding, self._stride = padding, stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.conv_transpose2d(x_NCHW, self.weight, self.bias, self._stride, self._padding)


class Pointwise(FixedLayer):
    """A 1×1 convolution: a product of a matrix with every pixel."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if runs_packed(x_NCHW):
            return self._convolved(x_NCHW)
        return pointwise(x_NCHW, self.weight, self.bias)


class Linear(FixedLayer):
    """A linear layer. With packed weights it is a 1×1 convolution of one row, whose pixels are the samples: with a few
    of them that is up to three times as fast as the product of two matrices that PyTorch makes of it."""

    def __init__(self, weight: Tensor, bias: Tensor, *, dtype: torch.dtype) -> None:
        """Copies weight (O, D) and bias (O,)."""
        super().__init__(weight[:, :, None, None], bias, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, D) to (B, O)."""
        if runs_packed(x):
            row = x.T[None, :, None]  # (1, D, 1, B), in channels_last as it is
            return self._convolved(row).squeeze((0, 2)).T
        return F.linear(x, self.weight.flatten(1), self.bias)


def pointwise(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1×1 convolution that is fast on one thread, too.

    With one CPU thread PyTorch hands a 1×1 convolution of fewer than 16 images to a kernel half as fast as oneDNN's. In
    channels_last the rows of all images can pass for images of one row each, of which there are enough. With several
    threads that would cost a tenth.

    Args:
        x_NCHW: (B, C, H, W) in channels_last.
        weight: (O, C, 1, 1).
        bias: (O,).

    Returns:
        (B, O, H, W) in channels_last.
    """
    batch, _, height, width = x_NCHW.shape
    if torch.compiler.is_compiling() or x_NCHW.is_cuda or batch >= _ENOUGH_IMAGES or torch.get_num_threads() > 1:
        return F.conv2d(x_NCHW, weight, bias)
    rows = x_NCHW.permute(0, 2, 3, 1).reshape(batch * height, 1, width, -1)
    y = F.conv2d(rows.permute(0, 3, 1, 2), weight, bias)  # (B H, O, 1, W)
    return y.permute(0, 2, 3, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)
