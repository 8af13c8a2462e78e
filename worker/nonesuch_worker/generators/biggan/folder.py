"""The folder that a BigGAN lives in: read strictly, and written.

Its files:

    config.json           upstream's
    model.safetensors     the weights
    card.json             optional, as `nonesuch_worker.generators.card` describes; `nonesuch generators add` writes one
    class_names.json      optional, for a folder without a card: a list

Upstream's own `pytorch_model.bin` is a pickle, which may hold more than tensors, and nothing in it says who made it.
It is not loaded: `nonesuch generators add` converts it once, and keeps what it was told about the source.
"""

import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.host.files import replacing
from nonesuch.offers import GeneratorInfo
from nonesuch.weights.checkpoints import misfits
from nonesuch_worker.generators.card import CARD, check_sha256, info_of, read_card

FORMAT = "nonesuch-biggan-1"
CONFIG = "config.json"
SAFE_WEIGHTS = "model.safetensors"
UPSTREAM_WEIGHTS = "pytorch_model.bin"
CLASS_NAMES = "class_names.json"


@dataclass(frozen=True)
class BigGANFolder:
    """A folder with `config.json` and `model.safetensors`."""

    path: Path

    @property
    def weights(self) -> Path:
        """`model.safetensors`. Raises `GeneratorNotFound`, and `InvalidValue` when there is upstream's pickle alone."""
        if (self.path / SAFE_WEIGHTS).is_file():
            return self.path / SAFE_WEIGHTS
        if (self.path / UPSTREAM_WEIGHTS).is_file():
            raise InvalidValue(
                f"{self.path / UPSTREAM_WEIGHTS} is a pickle from an unnamed source, and is not loaded. Convert it "
                "once, say where it comes from, and load it by its name from then on:\n"
                f"  nonesuch generators add {shlex.quote(str(self.path))} --source 'where it comes from'"
            )
        raise GeneratorNotFound(
            f"{str(self.path)!r} holds no BigGAN weights: there is neither {SAFE_WEIGHTS} nor upstream's "
            f"{UPSTREAM_WEIGHTS}, which `nonesuch generators add` converts"
        )

    def load(self, *, id_suffix: str = "") -> tuple[BigGAN, GeneratorInfo]:
        """Upstream's model with these weights (float32 on the CPU, in eval mode), and what the catalogue says.

        The id is the card's name, or else the folder's.

        Raises:
            GeneratorNotFound: the configuration or the weights are not there.
            IntegrityError: the card is not one, or the weights do not have its sha256, or the configuration is another.
            InvalidValue: a file is damaged, or tensors are missing, extra, misshapen, of another dtype or not finite;
                each is named.
        """
        weights = self.weights
        config = self.config()
        card = self._card(config)
        data = weights.read_bytes()
        if card is None:
            digest = hashlib.sha256(data).hexdigest()
            card = {"class_names": declared_names(self.path, config.num_classes)}
        else:
            digest = check_sha256(weights, data, card)
        model = build(config, str(self.path / CONFIG))
        info = self._info(model, card, digest, id_suffix)
        load_strictly(model, _parsed(data, weights), str(weights))
        return model, info

    def config(self) -> BigGANConfig:
        """Upstream's configuration. Raises `GeneratorNotFound`, `InvalidValue`."""
        values = self._json(CONFIG, dict)
        if values is None:
            raise GeneratorNotFound(f"{str(self.path)!r} holds no BigGAN: there is no {CONFIG}")
        return config_of(values, str(self.path / CONFIG))

    def _card(self, config: BigGANConfig) -> dict[str, Any] | None:
        if not (self.path / CARD).is_file():
            return None
        card = read_card(self.path)
        if card.get("format") != FORMAT or not isinstance(card.get("sha256"), str):
            raise IntegrityError(
                f"{self.path / CARD} is not a card of format {FORMAT} with a sha256: remove it, and let "
                "`nonesuch generators add` write one"
            )
        architecture = card.get("architecture")
        said = json.loads(config.to_json_string())
        if architecture != said:
            known = architecture if isinstance(architecture, dict) else {}
            other = sorted(key for key in said.keys() | known.keys() if said.get(key) != known.get(key))
            raise IntegrityError(
                f"{self.path / CONFIG} and the architecture on the card differ in {', '.join(other)}: "
                "one of the two was changed or belongs to another generator, copy both again"
            )
        return card

    def _info(self, model: BigGAN, card: dict[str, Any], sha256: str, id_suffix: str) -> GeneratorInfo:
        config = model.config
        side = config.output_dim
        info = info_of(
            card,
            f"the generator in {str(self.path)!r}",
            family="biggan",
            sha256=sha256,
            image_shape=(side, side, 3),
            classes=config.num_classes,
            z_dim=config.z_dim,
            id=self.path.resolve().name,
            class_names=tuple(f"class {k}" for k in range(config.num_classes)),
            real_information="labelled",
            description=f"BigGAN-deep {side} px, {config.num_classes} classes",
        )
        return info.model_copy(update={"id": info.id + id_suffix})

    def _json(self, name: str, kind: type) -> Any:
        """The contents of a file of the folder, a dict or a list; None if there is no such file."""
        return read_json(self.path / name, kind) if (self.path / name).is_file() else None


def read_json(path: Path, kind: type) -> Any:
    """What a file holds, a dict or a list. Raises `InvalidValue`."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidValue(f"{path} is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise InvalidValue(f"{path} must be a JSON {kind.__name__}, not {type(value).__name__}")
    return value


def declared_names(folder: Path, classes: int) -> list[str] | None:
    """What `class_names.json` in a folder says, or None without one. Raises `InvalidValue` unless it names each of so
    many classes."""
    path = folder / CLASS_NAMES
    if not path.is_file():
        return None
    names: list[str] = read_json(path, list)
    if not all(isinstance(name, str) for name in names):
        raise InvalidValue(f"{path} must be a list of strings, a name for each class")
    if len(names) != classes:
        raise InvalidValue(
            f"{path} has {len(names)} class names and the generator has {classes} classes: name each of them, in the "
            "order of their numbers, or take the file away"
        )
    return names


def config_of(values: dict[str, Any], what: str) -> BigGANConfig:
    """Upstream's configuration from its JSON. Raises `InvalidValue` for a field that upstream does not know."""
    known = vars(BigGANConfig()).keys()
    if unknown := values.keys() - known:
        raise InvalidValue(f"{what} has unknown {sorted(unknown)}; known are {sorted(known)}")
    return BigGANConfig(**values)


def build(config: BigGANConfig, what: str) -> BigGAN:
    """Upstream's network, in eval mode. Leaves torch's random numbers alone. Raises `InvalidValue`."""
    try:
        with torch.random.fork_rng(devices=()):
            return BigGAN(config).eval()
    except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise InvalidValue(f"{what} describes a network that cannot be built: {error!r}") from error


def load_strictly(model: BigGAN, tensors: dict[str, Tensor], what: str) -> None:
    """Load every tensor into its place. Raises `InvalidValue` that names those that do not fit."""
    if found := misfits(tensors, model.state_dict()):
        raise InvalidValue(f"{what} does not fit its {CONFIG}:\n  " + "\n  ".join(found))
    model.load_state_dict(tensors)


def save_biggan(model: BigGAN, folder: Path, *, weights: str = SAFE_WEIGHTS) -> BigGANFolder:
    """Write a model without a card: as safetensors, or as upstream does if `weights` is `UPSTREAM_WEIGHTS`."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(folder / weights) as temporary:
        if weights == SAFE_WEIGHTS:
            save_file(tensors, temporary)
        else:
            torch.save(tensors, temporary)
    (folder / CONFIG).write_text(model.config.to_json_string(), encoding="utf-8")
    return BigGANFolder(folder)


def _parsed(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError as error:
        raise InvalidValue(f"{path} is not a file of weights: {error}. Is it complete? Copy it again") from error
