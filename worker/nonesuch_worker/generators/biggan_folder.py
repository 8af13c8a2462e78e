"""The folder that a BigGAN lives in: read strictly, and written.

Its files:

    config.json           upstream's
    model.safetensors     the weights, or else
    pytorch_model.bin     the weights as upstream stores them
    card.json             optional: `class_names`, `license`
    class_names.json      optional: a list
"""

import hashlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nonesuch.catalog import GeneratorInfo
from nonesuch.config import explain
from nonesuch.errors import GeneratorNotFound, InvalidValue

CONFIG = "config.json"
SAFE_WEIGHTS = "model.safetensors"
UPSTREAM_WEIGHTS = "pytorch_model.bin"
CARD = "card.json"
CLASS_NAMES = "class_names.json"
MAX_SIGMA = 2.0
"""As far as Ravuri & Vinyals (2019) went with their truncation; 1.5 was the best to train on."""


@dataclass(frozen=True)
class BigGANFolder:
    """A folder with `config.json` and weights."""

    path: Path

    @property
    def weights(self) -> Path:
        """`model.safetensors`, or else `pytorch_model.bin`. Raises `GeneratorNotFound`."""
        for name in (SAFE_WEIGHTS, UPSTREAM_WEIGHTS):
            if (self.path / name).is_file():
                return self.path / name
        raise GeneratorNotFound(
            f"{str(self.path)!r} holds no BigGAN weights: put {SAFE_WEIGHTS} or upstream's {UPSTREAM_WEIGHTS} there"
        )

    def model(self) -> BigGAN:
        """Upstream's model with these weights, float32 on the CPU, in eval mode.

        Raises:
            GeneratorNotFound: the configuration or the weights are not there.
            InvalidValue: a file is damaged, or tensors are missing, extra, misshapen or not finite; each is named.
        """
        weights = self.weights
        model = BigGAN(self._config())
        tensors = _read(weights)
        if faults := _faults(tensors, model.state_dict()):
            raise InvalidValue(f"{weights} does not fit its {CONFIG}:\n  " + "\n  ".join(faults))
        model.load_state_dict(tensors)
        return model.eval()

    def info(self, config: BigGANConfig, *, id_suffix: str = "") -> GeneratorInfo:
        """What the catalogue says; the id is the folder's name. Raises `InvalidValue` if that or a file will not do."""
        side = config.output_dim
        card = self._json(CARD, dict) or {}
        names = card.get("class_names") or self._json(CLASS_NAMES, list)
        if names is None:
            names = [f"class {k}" for k in range(config.num_classes)]
        if len(names) != config.num_classes:
            raise InvalidValue(
                f"{self.path} names {len(names)} classes and its {CONFIG} has {config.num_classes}: make them equal"
            )
        try:
            return GeneratorInfo(
                id=self.path.resolve().name + id_suffix,
                family="biggan",
                sha256=_sha256(self.weights),
                image_shape=(side, side, 3),
                class_names=tuple(names),
                z_dim=config.z_dim,
                max_sigma=MAX_SIGMA,
                license=card.get("license", "unknown"),
                real_information="labelled",
                description=f"BigGAN-deep {side} px, {config.num_classes} classes",
            )
        except ValidationError as error:
            raise InvalidValue(explain(error, f"the generator in {str(self.path)!r}")) from None

    def _config(self) -> BigGANConfig:
        values = self._json(CONFIG, dict)
        if values is None:
            raise GeneratorNotFound(f"{str(self.path)!r} holds no BigGAN: there is no {CONFIG}")
        known = vars(BigGANConfig()).keys()
        if unknown := values.keys() - known:
            raise InvalidValue(f"{self.path / CONFIG} has unknown {sorted(unknown)}; known are {sorted(known)}")
        return BigGANConfig(**values)

    def _json(self, name: str, kind: type) -> Any:
        """The contents of a file of the folder, a dict or a list; None if there is no such file."""
        try:
            value = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InvalidValue(f"{self.path / name} is not JSON: {error}") from None
        if not isinstance(value, kind):
            raise InvalidValue(f"{self.path / name} must be a JSON {kind.__name__}, not {type(value).__name__}")
        return value


def save_biggan(model: BigGAN, folder: Path, *, weights: str = UPSTREAM_WEIGHTS) -> BigGANFolder:
    """Write a model as upstream stores it, or as safetensors if `weights` is `SAFE_WEIGHTS`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if weights == SAFE_WEIGHTS:
        save_file(tensors, folder / weights)
    else:
        torch.save(tensors, folder / weights)
    (folder / CONFIG).write_text(model.config.to_json_string(), encoding="utf-8")
    return BigGANFolder(folder)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InvalidValue(f"{path} is not a file of weights: {error}. Is it complete? Copy it again") from error
    if not isinstance(tensors, dict):
        raise InvalidValue(f"{path} holds a {type(tensors).__name__} where a state dictionary is wanted")
    return tensors


def _faults(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """What keeps some tensors from being loaded: one line for each."""
    faults = [f"missing: {name}" for name in wanted.keys() - given.keys()]
    faults += [f"extra: {name}" for name in given.keys() - wanted.keys()]
    for name in given.keys() & wanted.keys():
        if given[name].shape != wanted[name].shape:
            faults.append(f"misshapen: {name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}")
        elif not torch.isfinite(given[name]).all():
            faults.append(f"not finite: {name}")
    return sorted(faults)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
