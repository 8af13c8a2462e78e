"""Labels are a function of the order alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced, Explicit, Quota, resolve_classes


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True), st.integers(0, 500), st.integers(1, 200))
def test_any_slice_of_balanced_labels_is_balanced_to_within_one(classes: list[int], start: int, n: int) -> None:
    labels = Balanced(classes=tuple(classes)).of(np.arange(start, start + n))
    counts = [(labels == c).sum() for c in classes]
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == n


@given(st.dictionaries(st.integers(0, 20), st.integers(1, 40), min_size=1, max_size=6))
def test_a_quota_is_met_exactly_and_in_proportion(counts: dict[int, int]) -> None:
    quota = Quota(counts=counts)
    labels = quota.of(np.arange(quota.total))
    assert {c: int((labels == c).sum()) for c in counts} == counts
    half = labels[: quota.total // 2]
    for c, n in counts.items():
        assert abs(int((half == c).sum()) - n / 2) <= 1


def test_labels_do_not_depend_on_which_indices_are_asked_together() -> None:
    for labels in (Balanced(classes=(3, 1)), Quota(counts={0: 3, 5: 7}), Explicit(labels=tuple(range(10)))):
        whole = labels.of(np.arange(10))
        assert [int(labels.of(np.array([i]))[0]) for i in range(10)] == list(whole)


NAMES = ("T-shirt/top", "Trouser", "Sneaker")


@pytest.mark.parametrize(
    ("given_classes", "expected"),
    [(None, (0, 1, 2)), (["sneaker", 0], (2, 0)), (["1"], (1,)), (["TROUSER"], (1,))],
)
def test_classes_are_found_by_name_or_number(given_classes: list[str | int] | None, expected: tuple[int, ...]) -> None:
    assert resolve_classes(given_classes, NAMES) == expected


@pytest.mark.parametrize(
    ("given_classes", "message"),
    [
        (["sneakers"], "unknown class 'sneakers': did you mean Sneaker"),
        (["zebra"], "unknown class 'zebra': classes are T-shirt/top"),
        ([3], "unknown class 3"),
        ([-1], "unknown class -1"),
        ([], "empty"),
    ],
)
def test_an_unknown_class_is_named_with_the_nearest_known(given_classes: list[str | int], message: str) -> None:
    with pytest.raises(InvalidOrder, match=message):
        resolve_classes(given_classes, NAMES)
