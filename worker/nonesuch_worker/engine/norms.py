"""Batch normalisation as one multiply-add.

A norm subtracts a mean, divides by a standard deviation, and applies a gain and an offset, which in a conditional norm
are linear in a condition c (de Vries et al. 2017):

    (x - m) / √(v + ε) · (g + G c) + (o + O c)   =   x · gain + bias

    gain = (g + G c) / √(v + ε)        bias = o + O c - m · gain

The gains and biases of all norms of a network come of one product with c. They are computed in float32 whatever the
network computes in.

Shapes: B samples, D numbers of a condition, C channels of a norm, T channels of all norms together, n truncations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nonesuch_worker.engine.convolutions import Linear
from nonesuch_worker.engine.statistics import Rule


class Affine(NamedTuple):
    """What a norm does to a batch."""

    gain: Tensor
    """The gain of each sample and channel, (B, C, 1, 1)."""
    bias: Tensor
    """The bias of each sample and channel, (B, C, 1, 1)."""

    def relu(self, x_NCHW: Tensor) -> Tensor:
        """relu(x · gain + bias), in x's memory format. `x_NCHW` is left as it is."""
        return torch.addcmul(self.bias, x_NCHW, self.gain).relu_()

    def relu_(self, x_NCHW: Tensor) -> Tensor:
        """relu(x · gain + bias), in x's place unless gradients are recorded: x is not to be used again."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # a compiler finds such places itself
            return self.relu(x_NCHW)
        return torch.addcmul(self.bias, x_NCHW, self.gain, out=x_NCHW).relu_()


@dataclass(frozen=True)
class Norm:
    """A norm, as its network keeps it."""

    means: Tensor
    """The means, (n, C), or (1, C) if they depend on no truncation."""
    vars: Tensor
    """The variances, (n, C), or (1, C) if they depend on no truncation."""
    gain: Tensor
    """g: the part of the gain that no condition changes, (C,)."""
    offset: Tensor
    """o: the part of the offset that no condition changes, (C,)."""
    gain_weight: Tensor
    """G: what a condition adds to the gain, (C, D)."""
    offset_weight: Tensor
    """O: what a condition adds to the offset, (C, D)."""


def conditional_norm(gain_weight: Tensor, offset_weight: Tensor, means: Tensor, vars_: Tensor) -> Norm:
    """A norm whose gain is around 1 and whose offset is around 0."""
    one = torch.ones(len(gain_weight), device=means.device)
    return Norm(means, vars_, one, torch.zeros_like(one), gain_weight, offset_weight)


def plain_norm(gain: Tensor, offset: Tensor, means: Tensor, vars_: Tensor, *, condition: int) -> Norm:
    """A norm that no condition changes, among others with conditions of `condition` numbers."""
    nothing = gain.new_zeros(len(gain), condition)
    return Norm(means, vars_, gain, offset, nothing, nothing)


class Norms(nn.Module):
    """All norms of a network."""

    means: Tensor
    vars: Tensor

    def __init__(self, norms: Sequence[Norm], *, eps: float, rule: Rule, dtype: torch.dtype) -> None:
        """`dtype` is what the gains and biases are handed out in."""
        super().__init__()
        weights = [n.gain_weight for n in norms] + [n.offset_weight for n in norms]
        bias = torch.cat([n.gain for n in norms] + [n.offset for n in norms])
        self.linear = Linear(torch.cat(weights), bias, dtype=torch.float32)  # D to 2 T
        self.register_buffer("means", torch.cat([n.means for n in norms], dim=1).float())  # (n, T)
        self.register_buffer("vars", torch.cat([n.vars for n in norms], dim=1).float())  # (n, T)
        self._widths = [len(n.gain) for n in norms]
        self._eps, self._rule, self._dtype = eps, rule, dtype

    def statistics(self, truncation: float) -> Tensor:
        """(2, T): the means and the standard deviations that belong to a truncation in (0, 1]."""
        mean, var = self._rule(self.means, truncation), self._rule(self.vars, truncation)
        return torch.stack((mean, torch.sqrt(var + self._eps)))

    def forward(self, condition: Tensor, statistics: Tensor) -> list[Affine]:
        """One `Affine` for each norm, in the order they were given in.

        Args:
            condition: (B, D) float32.
            statistics: (2, T) float32.
        """
        mean, deviation = statistics
        gain, offset = self.linear(condition).chunk(2, dim=1)  # (B, T) each
        gain = gain / deviation
        bias = torch.addcmul(offset, mean, gain, value=-1)
        gain, bias = gain.to(self._dtype)[:, :, None, None], bias.to(self._dtype)[:, :, None, None]
        gains, biases = (torch.split(x, self._widths, dim=1) for x in (gain, bias))
        return [Affine(*pair) for pair in zip(gains, biases, strict=True)]
