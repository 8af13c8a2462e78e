"""Narrow convolutions, kept out of the layout in which their gradients are wrong.

On processors with AVX2 and no AVX-512 the convolution library's gradient for the weights of a strided 1x1 convolution
with fewer than `NARROW` input channels, in channels-last float32, is wrong, never comes, or damages the heap. So
`registry.build` guards the layers of every network, ours or a plug-in's, and a network goes into channels-last through
`to_channels_last`. A network that calls `torch.nn.functional.conv2d` by itself is not seen.
"""

import torch
from torch import Tensor, nn

NARROW = 8
"""Input channels below which the gradient of a strided 1x1 convolution cannot be relied on."""


def guard(network: nn.Module) -> None:
    """Have every narrow strided 1x1 convolution of a network take its input in the contiguous layout. Once for each
    network: the guard is copied with it, and is no part of its state."""
    for layer in _narrow(network):
        layer.register_forward_pre_hook(_contiguous)


def to_channels_last(network: nn.Module) -> None:
    """Put a network that `guard` has seen into channels-last, in place, but for the layers that it guards."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in _narrow(network):
        for weight in layer.parameters():  # its own or, under a parametrisation, what it is computed from
            if weight.ndim == 4:
                # Strides alone tell the layouts of 1x1 kernels apart, and `contiguous` leaves them as they are.
                weight.data = weight.data.clone(memory_format=torch.contiguous_format)


def _narrow(network: nn.Module) -> list[nn.Conv2d]:
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.groups == 1
        and layer.in_channels < NARROW
    ]


def _contiguous(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # An input of one channel counts as both layouts until its strides say which.
    return tuple(x.clone(memory_format=torch.contiguous_format) for x in inputs)
