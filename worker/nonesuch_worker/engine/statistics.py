"""The statistics of batch normalisation that belong to a truncation.

BigGAN's released weights hold them for truncations 0, 1/(n-1), ..., 1, where n = 51. In between they are interpolated,
by one of two rules:

- `interpolated`: linear, and so continuous in the truncation.
- `upstream_compatible`: what pytorch-pretrained-biggan does. It swaps the two weights, and the quotient of truncation
  and step is rounded down in floating point, so that 0.14, 0.28, 0.56, 0.58 and 0.94 read a mixture with the row below.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue

Rule = Callable[[Tensor, float], Tensor]
"""A rule that finds the statistics of a truncation: rows (n, C) and a truncation in (0, 1] to (C,)."""


def only_row(rows: Tensor, truncation: float) -> Tensor:
    """The rule of a network that has one set of statistics: (1, C) to (C,)."""
    return rows[0]


def check_truncation(truncation: float | None) -> float:
    """The truncation whose statistics are meant; none means 1. Raises `InvalidValue` outside of (0, 1]."""
    truncation = 1.0 if truncation is None else truncation
    if not 0 < truncation <= 1:
        raise InvalidValue(f"truncation {truncation} must be in (0, 1]: BigGAN has statistics for no other")
    return truncation


def interpolated(rows: Tensor, truncation: float) -> Tensor:
    """Linear interpolation of rows (n, C) that are stored for truncations 0, 1/(n-1), ..., 1: (C,)."""
    place = truncation * (len(rows) - 1)
    below = min(int(place), len(rows) - 2)
    return torch.lerp(rows[below], rows[below + 1], place - below)


def upstream_compatible(rows: Tensor, truncation: float) -> Tensor:
    """The numbers that upstream takes, to the bit: (n, C) to (C,)."""
    weight, below = math.modf(truncation / (1.0 / (len(rows) - 1)))
    row = int(below)
    if weight == 0.0:
        return rows[row]
    return rows[row] * weight + rows[row + 1] * (1 - weight)
