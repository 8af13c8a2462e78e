"""The checkpoint that a pretraining run resumes from: one safetensors file, so that it is either whole or not there.

Its JSON header holds the iteration, the config and the fingerprint of the real images. There is no random state to keep
(see `randomness`). Resuming gives the same weights, bit for bit, as never having stopped, on the same number of threads
and processes; on a GPU, up to the rounding of kernels that add in no fixed order.

A run can go on to another number of iterations where that changes none of the learning rates that it has used. For
that, a second checkpoint stays where the rates begin to fall.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.host.files import write_atomically
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch_worker.pretrain.config import PretrainConfig

CHECKPOINT = "checkpoint.safetensors"
BEFORE_DECAY = "before-decay.safetensors"

_FORMAT = "nonesuch-pretrain-1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingState:
    """What a run changes as it goes, by the names that prefix its tensors in a checkpoint."""

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


def save_checkpoint(
    path: Path, state: TrainingState, *, iteration: int, config: PretrainConfig, real: Fingerprint
) -> None:
    """Write networks and optimiser states after `iteration` iterations on these real images."""
    tensors: dict[str, Tensor] = {}
    for name, network in state.networks.items():
        for key, tensor in network.state_dict().items():
            tensors[f"{name}/{key}"] = tensor.contiguous()
    for name, optimizer in state.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, tensor in values.items():
                tensors[f"{name}/{index}/{key}"] = tensor.contiguous()
    header = {
        "format": _FORMAT,
        "iteration": str(iteration),
        "config": config.model_dump_json(),
        "real": real.model_dump_json(),
    }
    write_atomically(path, save(tensors, metadata=header))


def resume_from(folder: Path, state: TrainingState, *, config: PretrainConfig, real: Fingerprint) -> int:
    """Put the newest checkpoint that can go on under `config`, with these real images, into `state`.

    Returns:
        How many iterations it has done; 0 when there is none.

    Raises:
        IntegrityError: the newest is not a whole checkpoint of this format, or its tensors do not fit the networks.
        InvalidValue: it belongs to a run with another config or with other real images, or to one whose learning rates
            would have been others.
    """
    paths = [path for path in (folder / CHECKPOINT, folder / BEFORE_DECAY) if path.exists()]
    for path in paths:
        done, theirs, then = _read_header(path)
        differing = config.differing(theirs)
        if differing:
            raise InvalidValue(
                f"checkpoint {path} was made with other values of {', '.join(differing)}: "
                "use its config, another --out folder, or --no-resume to start over"
            )
        if then is not None:
            remedy = "Put those back, use another --out folder, or --no-resume to start over"
            then.check(real, f"checkpoint {path}", remedy)
        if config.same_rates(theirs, done):
            if path != paths[0]:
                logger.info(
                    "%s was made for another number of iterations and is past the start of their decay: going on from "
                    "%s, iteration %d", paths[0], path, done,
                )  # fmt: skip
            _load(path, state)
            return done
    if not paths:
        return 0
    done, theirs, _ = _read_header(paths[0])
    steady = done <= theirs.decay_start
    enough = f"{done + config.decay_iterations} iterations or more" if steady else f"{theirs.iterations} iterations"
    raise InvalidValue(
        f"checkpoint {paths[0]} has done {done} of {theirs.iterations} iterations; the learning rates fall from "
        f"{theirs.decay_start} on there, and from {config.decay_start} on with {config.iterations} iterations: it "
        f"cannot go on as if they had been those. Use {enough}, or --no-resume to start over"
    )


def _read_header(path: Path) -> tuple[int, PretrainConfig, Fingerprint | None]:
    """A checkpoint's (iterations done, config, real images); earlier versions did not write the last."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"checkpoint {path} cannot be read ({error}): remove it or use --no-resume") from error
    if header.get("format") != _FORMAT:
        raise IntegrityError(f"{path} is not a checkpoint of format {_FORMAT}: remove it or use --no-resume")
    real = Fingerprint.read(header["real"], f"checkpoint {path}") if "real" in header else None
    return int(header["iteration"]), PretrainConfig.model_validate(json.loads(header["config"])), real


def _load(path: Path, state: TrainingState) -> None:
    """Put a checkpoint's tensors into networks and optimisers."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
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


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose key starts with `name/`, without it."""
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
