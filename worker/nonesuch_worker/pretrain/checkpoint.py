"""Where a pretraining run resumes from: one safetensors file, so that it is either whole or not there.

Its JSON header holds the iteration and the config. There is no random state to keep (see `randomness`). Resuming gives
the same weights, bit for bit, as never having stopped, on the same number of threads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.files import write_atomically
from nonesuch_worker.pretrain.config import PretrainConfig

_FORMAT = "nonesuch-pretrain-1"


@dataclass(frozen=True)
class TrainingState:
    """What a run changes as it goes, by the names that prefix its tensors in a checkpoint."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


def save_checkpoint(path: Path, state: TrainingState, *, iteration: int, config: PretrainConfig) -> None:
    """Write networks and optimiser states after `iteration` iterations."""
    tensors: dict[str, Tensor] = {}
    for name, network in state.networks.items():
        for key, tensor in network.state_dict().items():
            tensors[f"{name}/{key}"] = tensor.contiguous()
    for name, optimizer in state.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, tensor in values.items():
                tensors[f"{name}/{index}/{key}"] = tensor.contiguous()
    header = {"format": _FORMAT, "iteration": str(iteration), "config": config.model_dump_json()}
    write_atomically(path, save(tensors, metadata=header))


def load_checkpoint(path: Path, state: TrainingState, *, config: PretrainConfig) -> int:
    """Put a checkpoint into `state`, and return how many iterations it has done.

    Raises:
        IntegrityError: the file is not a whole checkpoint of this format, or its tensors do not fit the networks.
        InvalidValue: it belongs to a run with another config.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"checkpoint {path} cannot be read ({error}): remove it or use --no-resume") from error
    if header.get("format") != _FORMAT:
        raise IntegrityError(f"{path} is not a checkpoint of format {_FORMAT}: remove it or use --no-resume")
    differing = config.resumes(PretrainConfig.model_validate(json.loads(header["config"])))
    if differing:
        raise InvalidValue(
            f"checkpoint {path} was made with other values of {', '.join(differing)}: "
            "use its config, another --out folder, or --no-resume to start over"
        )
    try:
        for name, network in state.networks.items():
            network.load_state_dict(_under(tensors, name))
    except RuntimeError as error:
        raise IntegrityError(f"checkpoint {path} does not fit its config: {error}") from error
    for name, optimizer in state.optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(tensors, name).items():
            index, _, slot = key.partition("/")
            moments.setdefault(int(index), {})[slot] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(header["iteration"])


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose key starts with `name/`, without it."""
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
