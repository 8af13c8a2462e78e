"""Find and load a generator by its source: the string that a user writes after `--generator`.

A plug-in is an entry point of the group `nonesuch.generators`: its name is the family, its object a
`load(argument: str, device: torch.device) -> Generator`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nonesuch.errors import GeneratorNotFound
from nonesuch.plugins import names, plugin
from nonesuch_worker.generators.card import CARD, family_of
from nonesuch_worker.generators.places import find, library, library_folder

if TYPE_CHECKING:  # what there is can be listed without torch
    import torch

    from nonesuch_worker.generators.base import Generator

GROUP = "nonesuch.generators"
UPSTREAM_CONFIG = "config.json"
PACKAGED = Path(__file__).parent / "weights"

Loader = Callable[[str, "torch.device"], "Generator"]


def families() -> tuple[str, ...]:
    """The registered families."""
    return names(GROUP)


def packaged() -> list[str]:
    """The names of the generators that ship with this package."""
    return sorted(card.parent.name for card in PACKAGED.glob(f"*/{CARD}"))


def load_generator(source: str, device: "torch.device | str" = "cpu") -> "Generator":
    """Load a generator. The first reading of `source` that fits is taken:

    1. `family:argument`, or a family alone: `analytic:classes=10,size=16`, `biggan:/data/biggan-deep-128`, `analytic`
    2. the name of a packaged generator
    3. the name of a generator in the library (`nonesuch generators add`)
    4. a folder: its `card.json` names the family; one with upstream's `config.json` instead is a BigGAN

    Raises:
        GeneratorNotFound: it is none of these, or the folder holds no generator. The message lists what there is.
        InvalidValue, IntegrityError: it was found but cannot be loaded; the family's loader says why.
    """
    import torch

    family, _, argument = source.partition(":")
    if family not in families():
        folder = folder_of(source)
        family, argument = (family_of(folder) if (folder / CARD).is_file() else "biggan"), str(folder)
    loader: Loader = plugin(GROUP, family)
    return loader(argument, torch.device(device))


def folder_of(source: str) -> Path:
    """The folder of a packaged generator, of one in the library, or the one that `source` names itself.

    Raises `GeneratorNotFound` if there is neither a card nor upstream's configuration in it.
    """
    folder = PACKAGED / source if source in packaged() else find(source) or Path(source)
    if (folder / CARD).is_file() or (folder / UPSTREAM_CONFIG).is_file():
        return folder
    if folder.is_dir():
        raise GeneratorNotFound(
            f"folder {source!r} holds no generator: it has neither {CARD} nor {UPSTREAM_CONFIG}. "
            "Name the folder that has the weights"
        )
    raise GeneratorNotFound(
        f"{source!r} is neither a packaged generator ({', '.join(packaged()) or 'none'}), nor one in the library "
        f"{library_folder()} ({', '.join(library()) or 'none'}), nor family:argument with a registered family "
        f"({', '.join(families()) or 'none'}), nor a folder that exists"
    )
