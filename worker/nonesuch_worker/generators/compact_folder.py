"""The folder that a generator of the family `compact` lives in: `generator.safetensors` and `card.json`, read strictly.

The card is written last, so a folder with a card is whole.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch_worker.generators.compact import CompactConfig, CompactGenerator

WEIGHTS = "generator.safetensors"
CARD = "card.json"
FORMAT = "nonesuch-compact-1"


def load_compact(folder: Path) -> tuple[CompactGenerator, dict[str, Any]]:
    """Load an exported generator strictly: (generator in eval mode with frozen float32 weights, card).

    Raises:
        GeneratorNotFound: the folder lacks the card or the weights.
        IntegrityError: the card is not one, or the weights do not have its sha256.
        InvalidValue: a tensor is missing, extra, misshapen, of another dtype or not finite; each is named.
    """
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise GeneratorNotFound(f"{folder} holds no generator: there is no {name}")
    card, config = _read_card(folder / CARD)
    data = (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card["sha256"]:
        raise IntegrityError(
            f"{folder / WEIGHTS} has sha256 {digest}, but its card says {card['sha256']}: "
            "the file is damaged or belongs to another card, copy both again"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from error
    network = CompactGenerator(config)
    faults = _faults(tensors, network.state_dict())
    if faults:
        raise InvalidValue(f"{folder / WEIGHTS} does not fit the architecture on its card: {'; '.join(faults)}")
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval(), card


def _read_card(path: Path) -> tuple[dict[str, Any], CompactConfig]:
    try:
        card: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or not isinstance(card.get("sha256"), str):
        raise IntegrityError(f"{path} is not a card of format {FORMAT} with a sha256")
    try:
        return card, CompactConfig.model_validate(card.get("architecture"))
    except ValidationError as error:
        raise IntegrityError(f"{path} names an architecture that cannot be built: {error}") from error


def _faults(given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    faults = [f"missing {name}" for name in wanted if name not in given]
    faults += [f"extra {name}" for name in given if name not in wanted]
    for name in wanted.keys() & given.keys():
        if given[name].shape != wanted[name].shape:
            faults.append(f"{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}")
        elif given[name].dtype != wanted[name].dtype:
            faults.append(f"{name} is {given[name].dtype}, not {wanted[name].dtype}")
        elif not torch.isfinite(given[name]).all():
            faults.append(f"{name} has values that are not finite")
    return sorted(faults)
