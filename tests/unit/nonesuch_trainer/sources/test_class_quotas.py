"""Class quotas: exact, in proportion, and nobody is forgotten."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch_trainer.sources.class_quotas import quota


@given(
    total=st.integers(0, 5000),
    errors=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    strength=st.floats(0.01, 1),
)
def test_quotas_add_up_and_leave_no_class_out(total: int, errors: list[float], strength: float) -> None:
    counts = quota(total, errors, strength)
    assert sum(counts) == total
    assert min(counts) >= (1 if total >= len(errors) else 0)


@given(errors=st.lists(st.floats(0.01, 1), min_size=2, max_size=10), strength=st.floats(0.1, 1))
def test_a_larger_error_never_gets_fewer_images(errors: list[float], strength: float) -> None:
    counts = quota(10_000, errors, strength)
    by_error = sorted(range(len(errors)), key=lambda i: errors[i])
    assert all(counts[a] <= counts[b] + 1 for a, b in pairwise(by_error))


@pytest.mark.parametrize(
    ("total", "errors", "strength", "counts"),
    [
        (100, [0.3, 0.1], 1.0, [75, 25]),
        (100, [0.3, 0.1], 0.5, [63, 37]),  # 62.5 and 37.5: of equal remainders the first
        (100, [0.0, 0.0], 1.0, [50, 50]),
        (10, [1.0, 0.0, 0.0], 1.0, [8, 1, 1]),
        (2, [0.0, 1.0, 0.0], 1.0, [0, 2, 0]),
    ],
)
def test_quotas_by_hand(total: int, errors: list[float], strength: float, counts: list[int]) -> None:
    assert quota(total, errors, strength) == counts
