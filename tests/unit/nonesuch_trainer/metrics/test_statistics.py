"""Intervals and tests against values that are known."""

import math

import numpy as np
import pytest

from nonesuch_trainer.metrics.statistics import paired, spread, wilson


def test_wilson_s_interval_is_the_published_one() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, table I: 81 of 263
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(0, 20)
    assert low == pytest.approx(0, abs=1e-12) and round(high, 4) == 0.1611


def test_pairs_count_only_where_the_two_differ() -> None:
    first = np.array([[True, True, False, True], [True, False, True, True]])
    second = np.array([[True, False, False, False], [False, False, False, True]])
    found = paired(first, second)
    assert (found.only_first, found.only_second, found.total) == (4, 0, 8)
    assert found.difference == 0.5
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(9 / 4 / 2)))
    assert paired(first, first).p_value == 1.0


def test_the_spread_over_seeds_is_student_s() -> None:
    assert spread([1.0, 2.0, 3.0]) == pytest.approx(4.303 / math.sqrt(3))
    assert math.isnan(spread([1.0]))
