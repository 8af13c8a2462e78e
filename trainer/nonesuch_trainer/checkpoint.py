"""Where a run resumes from: one safetensors file, whole or not there. No pickle.

It holds the classifier, the optimiser's momentum and the resident dataset, and in its header the config, the epoch,
the step and the history. Random numbers need no place in it (see `seeds`). A resumed run ends with the same bits as one
that was never stopped, on the same device and number of threads, if every image that was ordered came (`late` waits).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch_trainer.config import TrainConfig
from nonesuch_trainer.events import EpochRecord
from nonesuch_trainer.files import replacing
from nonesuch_trainer.resident import ResidentDataset

FILE = "checkpoint.safetensors"
_FORMAT = "nonesuch-train-1"
_REMEDY = "remove it, or start over with --fresh"


@dataclass(frozen=True, eq=False)
class RunState:
    """How far a run is, between two epochs."""

    epoch: int
    """Epochs that are trained."""
    step: int
    """Optimiser steps that are done."""
    history: tuple[EpochRecord, ...]
    resident: ResidentDataset
    """What the next epoch learns from."""


def save(
    path: Path,
    config: TrainConfig,
    origins: Mapping[str, str],
    state: RunState,
    model: nn.Module,
    optimiser: torch.optim.SGD,
) -> None:
    """Write a checkpoint in the place of the last one."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    for field in fields(ResidentDataset):
        tensors[f"resident/{field.name}"] = getattr(state.resident, field.name)
    header = {
        "format": _FORMAT,
        "config": config.model_dump_json(),
        "origins": json.dumps(dict(origins)),
        "epoch": str(state.epoch),
        "step": str(state.step),
        "history": json.dumps([record.model_dump() for record in state.history]),
    }
    with replacing(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, header)


def load(
    path: Path,
    config: TrainConfig,
    origins: Mapping[str, str],
    model: nn.Module,
    optimiser: torch.optim.SGD,
    device: torch.device,
) -> RunState:
    """Put a checkpoint into model and optimiser, and return how far it is.

    Raises:
        IntegrityError: the file is damaged, or does not fit its own config.
        InvalidValue: it belongs to another config or to other generators; the message says what differs.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"checkpoint {path} cannot be read ({error}): {_REMEDY}") from error
    if header.get("format") != _FORMAT:
        raise IntegrityError(f"{path} is not a checkpoint of format {_FORMAT}: {_REMEDY}")
    _check_kinship(path, header, config, origins)
    try:
        model.load_state_dict(_under(tensors, "model"))
        momenta = _under(tensors, "momentum")
        for name, parameter in model.named_parameters():
            if name in momenta:
                momentum = torch.empty_like(parameter)  # in the parameter's memory format
                optimiser.state[parameter]["momentum_buffer"] = momentum.copy_(momenta[name])
        resident = _under(tensors, "resident")
        on_device = {name: resident.pop(name).to(device) for name in ("images", "labels")}
        return RunState(
            epoch=int(header["epoch"]),
            step=int(header["step"]),
            history=tuple(EpochRecord.model_validate(record) for record in json.loads(header["history"])),
            resident=ResidentDataset(**on_device, **resident),
        )
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"checkpoint {path} does not fit its config ({error}): {_REMEDY}") from error


def _check_kinship(path: Path, header: Mapping[str, str], config: TrainConfig, origins: Mapping[str, str]) -> None:
    """Raises `InvalidValue` unless this run is the one that wrote the checkpoint."""
    try:
        theirs = TrainConfig.model_validate_json(header["config"])
        minted_by = json.loads(header["origins"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"checkpoint {path} has an unreadable header ({error}): {_REMEDY}") from error
    differing = config.differences(theirs)
    if differing:
        raise InvalidValue(
            f"checkpoint {path} was made with other values of {', '.join(differing)}: use its config, another `out` "
            "folder, or start over with --fresh"
        )
    changed = [name for name, digest in origins.items() if minted_by.get(name) != digest]
    if changed:
        raise InvalidValue(
            f"checkpoint {path} holds images of generator {changed[0]!r} with other weights (sha256 "
            f"{minted_by.get(changed[0])}, hosted now {origins[changed[0]]}): host those, or start over with --fresh"
        )


def _under(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, by their names in it."""
    return {key.removeprefix(f"{part}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{part}/")}
