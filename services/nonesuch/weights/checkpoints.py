"""Checkpoints as people have them: why the tensors of one do not fit a network, and what to do about it.

Whole models, training checkpoints with an optimiser in them, the `module.` that DataParallel puts before every name,
half precision, a moving average beside the raw weights. Nothing is converted without a word: the cause and the remedy
are said, and what is read afterwards is what somebody meant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from nonesuch.errors import InvalidValue
from nonesuch.weights.layout import WHY_NOT_OPENED
from nonesuch.weights.tensors import faults

WRAPPED_BY = {
    "module.": "DataParallel",
    "_orig_mod.": "torch.compile",
    "_forward_module.": "Fabric",
    "_fsdp_wrapped_module.": "FSDP",
}
"""What puts these before every name."""


def plain_tensors(loaded: object, what: str) -> dict[str, Tensor]:
    """The tensors of what was loaded from `what`, by name. Raises `InvalidValue` that says how to get at them."""
    if isinstance(loaded, nn.Module):
        raise InvalidValue(f"{what} is a whole network: give its tensors alone, model.state_dict()")
    if not isinstance(loaded, Mapping):
        raise InvalidValue(f"{what} holds a {type(loaded).__name__} where a state dictionary is wanted")
    states = [name for name, value in loaded.items() if _is_state(value)]
    if states:
        if len(states) == 1:
            remedy = f"give the network's tensors alone, {states[0]!r} of it"
        else:
            shown = ", ".join(map(repr, states))
            remedy = (
                f"give the tensors of one network alone. There are {shown}; where one is a moving average (EMA) and "
                "another the raw weights, the average makes the better images"
            )
        raise InvalidValue(f"{what} is a training checkpoint, which holds more than a network: {remedy}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise InvalidValue(f"{what} holds a {type(value).__name__} under {name!r} where a dense tensor is wanted")
    return {name: tensor.detach() for name, tensor in loaded.items()}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `torch.save` wrote, on the CPU. Runs nothing that the file holds.

    Raises `InvalidValue`: it is damaged, or holds anything but tensors by name; the message says which, and the remedy.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or a hostile pickle raises is its own choice
        if objects := _objects(path):
            raise InvalidValue(
                f"{path} is not a file of weights alone: it is a pickle with objects of {', '.join(objects)} (a whole "
                f"model, or a training checkpoint), and {WHY_NOT_OPENED}. Where it was made, save the tensors: "
                "torch.save(model.state_dict(), FILE)"
            ) from None
        raise InvalidValue(
            f"{path} is not a file of weights that can be read ({type(error).__name__}). Is it complete? Copy it "
            "again; or where it was made, save the tensors anew: torch.save(model.state_dict(), FILE)"
        ) from None
    return plain_tensors(loaded, str(path))


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being loaded as they are (`tensors.faults`), and last the `advice` if there is any; empty
    if nothing does."""
    found = faults(given, wanted)
    why = advice(given, wanted) if found else ""
    return [*found, why] if why else found


def advice(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, dtype: Literal["same", "kind"] = "same"
) -> str:
    """Why tensors with faults are as they are, and what to do: a sentence to follow the faults; "" if it is not known.

    Args:
        given: as read from a file.
        wanted: the network's `state_dict()`.
        dtype: as `tensors.faults` has it; of `kind`, another precision is no fault.
    """
    prefixes = _prefixes(given, wanted)
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix) for prefix in prefixes if prefix)
        plain = " and once under its plain names" if "" in prefixes else ""
        return (
            f"The network is in it {len(prefixes)} times, under the prefix {shown}{plain}: as a moving average (EMA) "
            "beside the raw weights, perhaps. Save the tensors of one of them alone, under plain names"
        )
    if prefixes and prefixes[0]:
        prefix = prefixes[0]
        wrapper = f", which {WRAPPED_BY[prefix]} puts there" if prefix in WRAPPED_BY else ""
        return (
            f"Its names have the prefix {prefix!r}{wrapper}. Save those tensors without it: "
            f"{{n.removeprefix({prefix!r}): tensor for n, tensor in state.items() if n.startswith({prefix!r})}}"
        )
    both = [(given[name], target) for name, target in wanted.items() if name in given and target.is_floating_point()]
    others = {
        str(tensor.dtype) for tensor, target in both if tensor.is_floating_point() and tensor.dtype != target.dtype
    }
    if others and dtype == "same":
        return (
            f"It was saved in {', '.join(sorted(others))}. Convert and save it: "
            "{name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}"
        )
    return ""


def _prefixes(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What stands before the names of a whole network among the given ones; "" where they are plain."""
    if not wanted:
        return []
    first = max(wanted, key=len)  # the longest name stands for one tensor at the most under each prefix
    candidates = sorted({name.removesuffix(first) for name in given if name.endswith(first)})
    return [
        prefix
        for prefix in candidates
        if (not prefix or prefix.endswith(".")) and all(prefix + name in given for name in wanted)
    ]


def _is_state(value: object) -> bool:
    """Whether it is a state dictionary: tensors by name, of which there are some."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(item, Tensor) for item in value.values())


def _objects(path: Path) -> list[str]:
    """The classes and functions that a pickle asks for and that are no tensors, without opening it; a few of them."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is damaged
        return []
    return sorted(found)[:3]
