"""The folder that a generator of the family `compact` lives in: `generator.safetensors` and `card.json`, read strictly.

The card is written last, so a folder with a card is whole. `nonesuch_worker.generators.card` describes it.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nonesuch.errors import GeneratorNotFound, IntegrityError
from nonesuch_worker.generators.card import CARD, read_card
from nonesuch_worker.generators.frozen import frozen
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator

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
    network = CompactGenerator(_architecture(card, folder / CARD))
    return frozen(network, folder / WEIGHTS, card), card


def _architecture(card: dict[str, Any], path: Path) -> CompactConfig:
    if card.get("format") != FORMAT or not isinstance(card.get("sha256"), str):
        raise IntegrityError(f"{path} is not a card of format {FORMAT} with a sha256")
    try:
        return CompactConfig.model_validate(card.get("architecture"))
    except ValidationError as error:
        raise IntegrityError(f"{path} names an architecture that cannot be built: {error}") from error
