"""Spectral normalisation (Miyato et al. 2018): a layer's weight, divided by its largest singular value.

The singular value is estimated in float32 whatever the layer itself computes in: `torch.nn.utils.parametrizations` does
it inside the surrounding autocast region, where a product in bfloat16 knows σ to two digits.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

M = TypeVar("M", bound=nn.Module)

_FIRST_STEPS = 15


class SpectralNorm(nn.Module):
    """The parametrization W ↦ W / σ(W), with σ from one step of the power method for each forward pass in train mode.

    A weight of any rank counts as a matrix with a row for each output. `_u` and `_v` are its leading singular vectors,
    as estimated so far.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("_u", F.normalize(matrix.new_empty(matrix.shape[0]).normal_(), dim=0))
        self.register_buffer("_v", F.normalize(matrix.new_empty(matrix.shape[1]).normal_(), dim=0))
        for _ in range(_FIRST_STEPS):
            self._step(matrix)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over its σ, float32 and differentiable in the weight; the singular vectors are constants."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)  # (outputs, inputs)
            if self.training:
                self._step(matrix.detach())
            # Copies: the next forward pass moves the vectors in place, and the backward pass of this one needs them.
            u, v = self._u.clone(), self._v.clone()
            return weight / torch.dot(u, torch.mv(matrix, v))

    @torch.no_grad()
    def _step(self, matrix: Tensor) -> None:
        self._u.copy_(F.normalize(torch.mv(matrix, self._v), dim=0))
        self._v.copy_(F.normalize(torch.mv(matrix.T, self._u), dim=0))


def spectral_norm(module: M) -> M:
    """Normalise the weight of a module from now on; returns the module."""
    parametrize.register_parametrization(module, "weight", SpectralNorm(module.weight))  # type: ignore[arg-type]
    return module
