"""The strict check of named tensors against those of the network that they are for."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

LISTED = 8
"""How many tensors of one kind of fault are named; a file of another network has hundreds."""


def faults(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, dtype: Literal["same", "kind"] = "same"
) -> list[str]:
    """What keeps some tensors from being loaded into a network, with names; empty if nothing does.

    A tensor is at fault when it is missing, extra, of another shape or dtype, or has values that are not finite (once
    they are of the wanted dtype). Of each of these kinds the first `LISTED` are named, and the others counted.

    Args:
        given: as read from a file.
        wanted: the network's `state_dict()`.
        dtype: `same` wants the very dtype; `kind` is content with any floating dtype for a floating one, and with any
            other for one that is not.
    """
    misfits: dict[str, list[str]] = {"shape": [], "dtype": [], "finite": []}
    for name in sorted(given.keys() & wanted.keys()):
        tensor, target = given[name], wanted[name]
        if tensor.shape != target.shape:
            misfits["shape"].append(f"{name} is {tuple(tensor.shape)}, not {tuple(target.shape)}")
        elif not _converts(tensor.dtype, target.dtype, dtype):
            misfits["dtype"].append(f"{name} is {tensor.dtype}, not {target.dtype}")
        elif not torch.isfinite(tensor.to(target.dtype)).all():
            misfits["finite"].append(f"{name} has values that are not finite")
    found = [_named("missing ", wanted.keys() - given.keys()), _named("extra ", given.keys() - wanted.keys())]
    found += [fault for faulty in misfits.values() for fault in _first(faulty)]
    return [fault for fault in found if fault]


def _converts(given: torch.dtype, wanted: torch.dtype, rule: Literal["same", "kind"]) -> bool:
    alike = given.is_floating_point == wanted.is_floating_point and given.is_complex == wanted.is_complex
    return given == wanted or (rule == "kind" and alike)


def _named(what: str, names: Iterable[str]) -> str:
    listed = _first(sorted(names))
    return what + ", ".join(listed) if listed else ""


def _first(items: list[str]) -> list[str]:
    more = len(items) - LISTED
    return [*items[:LISTED], f"and {more} more"] if more > 0 else items
