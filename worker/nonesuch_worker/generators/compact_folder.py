"""The folder that a generator of the family `compact` lives in: `generator.safetensors` and `card.json`, read strictly.

The card is written last, so a folder with a card is whole. `nonesuch_worker.generators.card` describes it.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.tensors import faults
from nonesuch_worker.generators.card import CARD, check_sha256, read_card
from nonesuch_worker.generators.compact import CompactConfig, CompactGenerator

__all__ = ["CARD", "FORMAT", "WEIGHTS", "load_compact"]

WEIGHTS = "generator.safetensors"
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
    card = read_card(folder)
    config = _architecture(card, folder / CARD)
    data = (folder / WEIGHTS).read_bytes()
    check_sha256(folder / WEIGHTS, data, card)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise IntegrityError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from error
    network = CompactGenerator(config)
    if found := faults(tensors, network.state_dict()):
        raise InvalidValue(f"{folder / WEIGHTS} does not fit the architecture on its card: {'; '.join(found)}")
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval(), card


def _architecture(card: dict[str, Any], path: Path) -> CompactConfig:
    if card.get("format") != FORMAT or not isinstance(card.get("sha256"), str):
        raise IntegrityError(f"{path} is not a card of format {FORMAT} with a sha256")
    try:
        return CompactConfig.model_validate(card.get("architecture"))
    except ValidationError as error:
        raise IntegrityError(f"{path} names an architecture that cannot be built: {error}") from error
