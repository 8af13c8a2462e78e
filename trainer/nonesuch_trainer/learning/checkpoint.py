"""A run's checkpoint, which it resumes from: one safetensors file, whole or not there. No pickle.

It holds the classifier, the optimiser's momentum and the resident dataset, and in its header the config, the epoch,
the step, the history and the tally. Random numbers need no place in it (see `nonesuch.seeds`). A resumed run ends
with the same bits as one that was never stopped, on the same device and number of threads, if every image that was
ordered came (`dataset.late` waits).
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
from nonesuch.host.files import replacing
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch.smoothed.resident import ResidentDataset
from nonesuch.tally import NOTHING, Tally
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.settings.identity import RunIdentity

CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "nonesuch-train-2"
_REMEDY = "remove it, or start over with --fresh"


@dataclass(frozen=True, eq=False)
class RunState:
    """How far a run is, between two epochs."""

    epoch: int
    """How many epochs are trained."""
    step: int
    """How many optimiser steps are done."""
    history: tuple[EpochRecord, ...]
    resident: ResidentDataset
    """The dataset that the next epoch learns from."""
    tally: Tally = NOTHING
    """What became of every latent that was tried so far."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint of the run whose model and optimiser these are."""

    path: Path
    identity: RunIdentity
    origins: Mapping[str, str]
    """The run's `Facts.origins`: it does not go on with other weights."""
    model: nn.Module
    optimiser: torch.optim.SGD
    real: Fingerprint | None = None
    """`Facts.real`: nor with other real images."""

    def discard(self) -> None:
        """Remove the checkpoint, if there is one: the run starts over."""
        self.path.unlink(missing_ok=True)

    def save(self, state: RunState) -> None:
        """Write a checkpoint in the place of the last one."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{name}"] = momentum
        for field in fields(ResidentDataset):
            if (column := getattr(state.resident, field.name)) is not None:
                tensors[f"resident/{field.name}"] = column
        header = {
            "format": _FORMAT,
            "config": self.identity.document,
            "origins": json.dumps(dict(self.origins)),
            **({} if self.real is None else {"real": self.real.model_dump_json()}),
            "epoch": str(state.epoch),
            "step": str(state.step),
            "history": json.dumps([record.model_dump() for record in state.history]),
            "tally": json.dumps(state.tally.counters()),
        }
        with replacing(self.path) as temporary:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, header)

    def load(self, device: torch.device) -> RunState | None:
        """Put a checkpoint into model and optimiser, and return how far it is; None if there is none.

        Raises:
            IntegrityError: the file is damaged, or does not fit its own config.
            InvalidValue: it belongs to another config, to other generators or to other real images; the message says
                what differs.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"checkpoint {self.path} cannot be read ({error}): {_REMEDY}") from error
        if header.get("format") != _FORMAT:
            raise IntegrityError(f"{self.path} is not a checkpoint of format {_FORMAT}: {_REMEDY}")
        self._check_kinship(header)
        try:
            return self._put_back(header, tensors, device)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"checkpoint {self.path} does not fit its config ({error}): {_REMEDY}") from error

    def _check_kinship(self, header: Mapping[str, str]) -> None:
        """Raises `InvalidValue` unless this run is the one that wrote the checkpoint."""
        try:
            differing = self.identity.differences(RunIdentity(header["config"]))
            minted_by = json.loads(header["origins"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"checkpoint {self.path} has an unreadable header ({error}): {_REMEDY}") from error
        if differing:
            raise InvalidValue(
                f"checkpoint {self.path} was made with other values of {', '.join(differing)}: use its config, another "
                "`out` folder, or start over with --fresh"
            )
        for name in sorted(self.origins.keys() | minted_by.keys()):
            then, now = minted_by.get(name, "none"), self.origins.get(name, "none")
            if then != now:
                raise InvalidValue(
                    f"checkpoint {self.path} holds images that {name} with other weights had a part in (sha256 {then}, "
                    f"now {now}): use those, or start over with --fresh"
                )
        if self.real is not None and "real" in header:  # earlier versions did not write it
            what = f"checkpoint {self.path}"
            remedy = "Put those back, use another `out` folder, or start over with --fresh"
            Fingerprint.read(header["real"], what).check(self.real, what, remedy)

    def _put_back(self, header: Mapping[str, str], tensors: Mapping[str, Tensor], device: torch.device) -> RunState:
        self.model.load_state_dict(_under(tensors, "model"))
        momenta = _under(tensors, "momentum")
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                momentum = torch.empty_like(parameter)  # in the parameter's memory format
                self.optimiser.state[parameter]["momentum_buffer"] = momentum.copy_(momenta[name])
        resident = _under(tensors, "resident")
        on_device = {name: resident.pop(name).to(device) for name in ("images", "labels", "soft") if name in resident}
        return RunState(
            epoch=int(header["epoch"]),
            step=int(header["step"]),
            history=tuple(EpochRecord.model_validate(record) for record in json.loads(header["history"])),
            resident=ResidentDataset(**on_device, **resident),
            tally=Tally.from_counters(json.loads(header["tally"])),
        )


def _under(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, by their names in it."""
    return {key.removeprefix(f"{part}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{part}/")}
