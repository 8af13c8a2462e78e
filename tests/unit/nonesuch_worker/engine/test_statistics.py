"""The statistics of a truncation, by both rules, against upstream's own norm."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytorch_pretrained_biggan.model import BigGANBatchNorm
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch_worker.engine.statistics import check_truncation, interpolated, only_row, upstream_compatible

ROWS = torch.rand(51, 7, generator=torch.Generator().manual_seed(0)) + 0.1
HUNDREDTHS = [k / 100 for k in range(1, 101)]


def upstream(rows: Tensor, *, x: float, eps: float, as_means: bool) -> Callable[[float], Tensor]:
    """Upstream's norm of an image that is `x` everywhere, with rows in the place of the means or the variances."""
    norm = BigGANBatchNorm(rows.shape[1], condition_vector_dim=1, n_stats=len(rows), eps=eps).eval()
    norm.running_means.zero_()
    norm.running_vars.zero_()
    (norm.running_means if as_means else norm.running_vars).copy_(rows)
    image, no_condition = torch.full((1, rows.shape[1], 1, 1), x), torch.zeros(1, 1)  # a gain of 1, an offset of 0
    return lambda truncation: norm(image, truncation, no_condition).detach().flatten()


@pytest.mark.parametrize("n", [51, 11, 2])
def test_upstream_compatible_reads_upstream_s_numbers_to_the_bit(n: int) -> None:
    rows = ROWS[:n]
    means = upstream(rows, x=0.0, eps=1.0, as_means=True)  # (0 - mean) / √(0 + 1)
    deviations = upstream(rows, x=1.0, eps=1e-4, as_means=False)  # (1 - 0) / √(var + ε)
    for truncation in HUNDREDTHS:
        found = upstream_compatible(rows, truncation)
        assert torch.equal(found, -means(truncation)), truncation
        assert torch.equal(1 / torch.sqrt(found + 1e-4), deviations(truncation)), truncation


def test_upstream_reads_a_mixture_for_five_truncations_whose_row_is_stored() -> None:
    other = [k / 50 for k in range(1, 51) if not torch.equal(upstream_compatible(ROWS, k / 50), ROWS[k])]
    assert other == [0.14, 0.28, 0.56, 0.58, 0.94]


@pytest.mark.parametrize("n", [51, 11, 2])
def test_interpolated_is_linear_between_the_rows(n: int) -> None:
    rows = ROWS[:n]
    for truncation in [*HUNDREDTHS, 0.001, 0.0123, 1 / 3, 0.9999]:
        wanted = [np.interp(truncation, np.linspace(0, 1, n), channel) for channel in rows.double().T.numpy()]
        torch.testing.assert_close(interpolated(rows, truncation).double(), torch.tensor(wanted), atol=1e-6, rtol=0)


def test_interpolated_hits_every_row() -> None:
    for k in range(1, 51):
        torch.testing.assert_close(interpolated(ROWS, k / 50), ROWS[k], atol=1e-6, rtol=0)
    assert torch.equal(interpolated(ROWS, 1.0), ROWS[50])


def test_one_set_of_statistics_belongs_to_every_truncation() -> None:
    assert torch.equal(only_row(ROWS[3:4], 0.2), ROWS[3])


@pytest.mark.parametrize("truncation", [0.0, -0.5, math.nextafter(1, 2), 2.0, math.inf, math.nan])
def test_a_truncation_without_statistics_is_refused_by_its_value(truncation: float) -> None:
    with pytest.raises(InvalidValue, match=rf"truncation {truncation} must be in \(0, 1\]"):
        check_truncation(truncation)


def test_no_truncation_means_one() -> None:
    assert check_truncation(None) == 1.0
    assert [check_truncation(t) for t in (5e-324, 0.5, 1.0)] == [5e-324, 0.5, 1.0]
