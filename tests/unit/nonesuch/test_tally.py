"""A tally adds up, travels as counters, and is a table in the end."""

from collections import Counter

import numpy as np
import pytest

from nonesuch.tally import NOTHING, Tally, count

ONE = Tally(tried=Counter({0: 5, 2: 4}), wrong_label=Counter({0: 2}), below_threshold=Counter({0: 1, 2: 4}))
OTHER = Tally(tried=Counter({2: 1}), short=Counter({2: 3}))


def test_adding_is_counting_both() -> None:
    both = ONE + OTHER
    assert both.tried == Counter({0: 5, 2: 5}) and both.short == Counter({2: 3})
    assert sum([ONE, OTHER], NOTHING) == both
    assert both.kept == Counter({0: 2, 2: 1})


def test_acceptance_is_what_was_kept_of_what_was_tried() -> None:
    assert ONE.acceptance() == pytest.approx(2 / 9)
    assert ONE.acceptance(0) == pytest.approx(2 / 5) and ONE.acceptance(2) == 0
    assert np.isnan(ONE.acceptance(1)) and np.isnan(NOTHING.acceptance())


def test_only_a_tally_that_counted_something_is_true() -> None:
    assert ONE and OTHER and not NOTHING


def test_it_travels_as_counters() -> None:
    assert OTHER.counters() == {"tried:2": 1, "short:2": 3}
    assert Tally.from_counters((ONE + OTHER).counters()) == ONE + OTHER


def test_a_table_has_a_row_for_each_class_that_was_tried() -> None:
    assert (ONE + OTHER).table(("ant", "bee", "cat"))[1] == {
        "class": "cat",
        "tried": 5,
        "kept": 1,
        "wrong_label": 0,
        "below_threshold": 4,
        "short": 3,
    }


def test_labels_are_counted() -> None:
    assert count(np.array([3, 1, 3], np.int32)) == Counter({3: 2, 1: 1})
