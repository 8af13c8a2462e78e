"""Weights in the order that oneDNN computes in.

PyTorch keeps weights in its own order, and oneDNN brings them into its own at every call. Where few pixels share many
weights, as in a network's first layers, that takes up to seven times as long as the convolution. Weights that do not
change can be brought into it once.

PyTorch's compiler does so, by operators that have no public name (torch/_inductor/fx_passes/mkldnn_fusion.py). These
are used here without it. They record no gradients.

Shapes: B samples, C channels in and O out, H × W pixels.
"""

import torch
from torch import Tensor


def runs_packed(x_NCHW: Tensor) -> bool:
    """Whether packed weights can serve a convolution of x: on a CPU with oneDNN, without a gradient or a compiler."""
    return (
        x_NCHW.device.type == "cpu"
        and not (x_NCHW.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and _computes_in(x_NCHW.dtype)
    )


class PackedWeight:
    """The weight of a convolution in oneDNN's order, and its bias. Holds a second copy of the numbers."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, padding: tuple[int, int], stride: int, x_NCHW: Tensor
    ) -> None:
        """weight: (O, C, h, w). bias: (O,). `x_NCHW` is of the shape that it will see, of any number of samples."""
        self._weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), padding, [stride] * 2, [1, 1], 1, x_NCHW.shape
        )
        self._bias, self._padding, self._stride = bias, padding, [stride] * 2

    def convolve(self, x_NCHW: Tensor) -> Tensor:
        """`F.conv2d` of x, (B, C, H, W) in channels_last, to (B, O, H', W') in channels_last."""
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_NCHW, self._weight, self._bias, self._padding, self._stride, [1, 1], 1, "none", [], ""
        )
        return y


def _computes_in(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
