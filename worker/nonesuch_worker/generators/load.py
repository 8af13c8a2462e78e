"""Find and load a generator by its source: the string that a user writes after `--generator`.

A plug-in is an entry point of the group `nonesuch.generators`: its name is the family, its object a
`load(argument: str, device: torch.device) -> Generator`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from nonesuch.errors import GeneratorNotFound, InvalidValue
from nonesuch.plugins import names, plugin
from nonesuch_worker.generators.base import Generator

GROUP = "nonesuch.generators"
CARD = "card.json"
UPSTREAM_CONFIG = "config.json"
PACKAGED = Path(__file__).parent / "weights"

Loader = Callable[[str, torch.device], Generator]


def families() -> tuple[str, ...]:
    """The registered families."""
    return names(GROUP)


def packaged() -> list[str]:
    """The names of the generators that ship with this package."""
    return sorted(card.parent.name for card in PACKAGED.glob(f"*/{CARD}"))


def load_generator(source: str, device: torch.device | str = "cpu") -> Generator:
    """Load a generator. The first reading of `source` that fits is taken:

    1. `family:argument`, or a family alone: `analytic:classes=10,size=16`, `biggan:/data/biggan-deep-128`, `analytic`
    2. the name of a packaged generator
    3. a folder: its `card.json` names the family; one with upstream's `config.json` instead is a BigGAN

    Raises:
        GeneratorNotFound: it is none of these, or the folder holds no generator. The message lists what there is.
        InvalidValue: it was found but cannot be loaded; the family's loader says why.
    """
    family, _, argument = source.partition(":")
    if family not in families():
        family, argument = _look_up(source)
    loader: Loader = plugin(GROUP, family)
    return loader(argument, torch.device(device))


def _look_up(source: str) -> tuple[str, str]:
    """The family and the argument of a packaged generator or a folder."""
    folder = PACKAGED / source if source in packaged() else Path(source)
    if (folder / CARD).is_file():
        return _family_of(folder / CARD), str(folder)
    if (folder / UPSTREAM_CONFIG).is_file():
        return "biggan", str(folder)
    if folder.is_dir():
        raise GeneratorNotFound(
            f"folder {source!r} holds no generator: it has neither {CARD} nor {UPSTREAM_CONFIG}. "
            "Name the folder that has the weights"
        )
    raise GeneratorNotFound(
        f"{source!r} is neither a packaged generator ({', '.join(packaged()) or 'none'}), nor family:argument "
        f"with a registered family ({', '.join(families()) or 'none'}), nor a folder that exists"
    )


def _family_of(card: Path) -> str:
    try:
        return str(json.loads(card.read_bytes())["family"])
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidValue(f"{card} must be a JSON object that names its 'family': {error!r}") from None
