"""The card of a generator: the file that says what the weights beside it are.

The folder of a generator:

    card.json             what it is; written last, so a folder with a card is whole
    *.safetensors         the weights: `generator.safetensors` (compact), `model.safetensors` (biggan), ...
    config.json           biggan alone: upstream's configuration

The card is a JSON object. Every family has these fields, and adds what it needs:

    format                which family's card this is, in which version: `nonesuch-compact-1`
    family                the plug-in that loads it: an entry point of the group `nonesuch.generators`
    name                  what orders call it
    sha256                of the weights file
    class_names           a list; the place of a name is its label
    image_shape           [H, W, C] of the minted images
    license               of the weights
    real_information      what its training took from real images: none, unlabelled or labelled
    description           a line for people
    source                where the weights come from, if they were made elsewhere
    max_sigma             the largest σ of z ~ N(0, σ²I) that makes sense; the family's own value if left out
    architecture          what the network is built from
    recipe, metrics, curve    how it was trained, what it was measured to be, and on the way there
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nonesuch.config import validated
from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.offers import GeneratorInfo

CARD = "card.json"
MAX_SIGMA: Mapping[str, float] = {"biggan": 2.0, "compact": 2.0}
"""The largest σ of each family, for cards that have none. Ravuri & Vinyals (2019) went up to 2 with BigGAN (1.5 was the
best to train on). The compact family is as good to learn from at σ = 1.25 as at 1, and four points worse at 2
(docs/results/generators-sigma.json)."""

_DESCRIBING = ("class_names", "license", "max_sigma", "real_information", "description")
_ELSEWHERE = {*_DESCRIBING, "format", "family", "name", "sha256", "image_shape", "z_dim", "curve"}
"""Fields that the catalogue has under names of its own, and the curve, which is long."""


def read_card(folder: Path) -> dict[str, Any]:
    """The card in a folder. Raises `FileNotFoundError`, and `IntegrityError` if it is not a JSON object."""
    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from None
    if not isinstance(card, dict):
        raise IntegrityError(f"{path} must be a JSON object that names its 'family', not a {type(card).__name__}")
    return card


def family_of(folder: Path) -> str:
    """The family that a folder's card names. Raises `IntegrityError` if it names none."""
    family = read_card(folder).get("family")
    if not isinstance(family, str):
        raise IntegrityError(f"{folder / CARD} must name its 'family', not {family!r}")
    return family


def check_sha256(path: Path, data: bytes, card: Mapping[str, Any]) -> str:
    """The sha256 of a file's bytes. Raises `IntegrityError` if the card has another."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != card["sha256"]:
        raise IntegrityError(
            f"{path} has sha256 {digest}, but its card says {card['sha256']}: "
            "the file is damaged or belongs to another card, copy both again"
        )
    return digest


def more_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says that the catalogue has no field for."""
    return {field: value for field, value in card.items() if field not in _ELSEWHERE}


def info_of(
    card: Mapping[str, Any],
    what: str,
    *,
    family: str,
    sha256: str,
    image_shape: tuple[int, int, int],
    classes: int,
    z_dim: int,
    **defaults: Any,
) -> GeneratorInfo:
    """What the catalogue says about a generator: what its card says, held against its network.

    Args:
        card: its card.
        what: names the card in messages.
        family: as for `GeneratorInfo`, and so are `sha256`, `image_shape` and `z_dim`: facts of the network.
        classes: how many the network has.
        defaults: fields of `GeneratorInfo` (and `id`) for a card that lacks them.

    Raises:
        InvalidValue: a field is missing or cannot be, or the card and the network disagree.
    """
    said = {field: card[field] for field in _DESCRIBING if card.get(field) is not None}
    said["card"] = more_of(card)
    if "name" in card:
        said["id"] = card["name"]
    facts = {"family": family, "sha256": sha256, "image_shape": image_shape, "z_dim": z_dim}
    absent = {"id": None, "class_names": None, "real_information": None, "max_sigma": MAX_SIGMA.get(family, 1.0)}
    info = validated(GeneratorInfo, {**absent, **defaults, **said, **facts}, what)
    if info.max_sigma <= 0:
        raise InvalidValue(f"{what} has max_sigma {info.max_sigma}: it must be above 0")
    if len(info.class_names) != classes:
        raise InvalidValue(
            f"{what} names {len(info.class_names)} classes and the network has {classes}: make them equal"
        )
    if card.get("image_shape") not in (None, list(image_shape)):
        raise InvalidValue(f"{what} has image_shape {card['image_shape']} and the network makes {list(image_shape)}")
    return info
