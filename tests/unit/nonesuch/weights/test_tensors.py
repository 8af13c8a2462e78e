"""Tensors held against those of a network: every way not to fit, each with its name."""

import pytest
import torch
from torch import Tensor

from nonesuch.weights.tensors import LISTED, faults

WANTED = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "steps": torch.tensor(0)}


def given(**changed: Tensor) -> dict[str, Tensor]:
    return {**WANTED, **changed}


def test_what_fits_has_no_faults() -> None:
    assert faults(given(), WANTED) == []
    assert faults({}, {}) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"c": torch.zeros(1)}, "extra c"),
        ({"a": torch.zeros(3, 2)}, "a is (3, 2), not (2, 3)"),
        ({"b": torch.zeros(4, 1)}, "b is (4, 1), not (4,)"),
        ({"b": torch.zeros(4, dtype=torch.float64)}, "b is torch.float64, not torch.float32"),
        ({"b": torch.tensor([0, 0, torch.nan, 0])}, "b has values that are not finite"),
        ({"b": torch.tensor([0, 0, 0, -torch.inf])}, "b has values that are not finite"),
    ],
)
def test_each_fault_is_named(changed: dict[str, Tensor], fault: str) -> None:
    assert faults(given(**changed), WANTED) == [fault]


def test_several_faults_are_all_named() -> None:
    tensors = given(b=torch.zeros(5), c=torch.zeros(1))
    del tensors["a"]
    assert faults(tensors, WANTED) == ["missing a", "extra c", "b is (5,), not (4,)"]


def test_another_dtype_of_the_same_kind_is_taken_when_asked() -> None:
    tensors = given(a=torch.zeros(2, 3, dtype=torch.float16), steps=torch.tensor(7, dtype=torch.int32))
    assert faults(tensors, WANTED, dtype="kind") == []
    assert len(faults(tensors, WANTED)) == 2
    for other in (torch.int64, torch.complex64):
        (fault,) = faults(given(b=torch.zeros(4, dtype=other)), WANTED, dtype="kind")
        assert fault == f"b is {other}, not torch.float32"


def test_a_value_that_does_not_survive_conversion_is_not_finite() -> None:
    too_much = torch.full((4,), 1e300, dtype=torch.float64)
    assert faults(given(b=too_much), WANTED, dtype="kind") == ["b has values that are not finite"]


def test_a_file_of_another_network_makes_a_short_message() -> None:
    many = {f"layer{i:03}": torch.zeros(1) for i in range(200)}
    (fault,) = faults({}, many)
    assert fault.startswith("missing layer000, layer001, ")
    assert fault.endswith(f"layer{LISTED - 1:03}, and {200 - LISTED} more")
    wider = {name: torch.zeros(2) for name in many}
    assert faults(wider, many)[LISTED:] == [f"and {200 - LISTED} more"]
