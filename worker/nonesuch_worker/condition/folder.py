"""What goes into the folder of a conditioned generator, and where it may be."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save

from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.card import CARD
from nonesuch_worker.generators.conditioned.card import Card
from nonesuch_worker.generators.conditioned.loading import BASE, WEIGHTS
from nonesuch_worker.generators.conditioned.network import InputNetwork
from nonesuch_worker.generators.load import families, folder_of
from nonesuch_worker.generators.places import staged


@contextmanager
def new_folder(path: Path, base: Path | None) -> Iterator[Path]:
    """A folder to fill; at the end it becomes `path` in one step, or is removed after an error or an interruption.

    Raises `InvalidValue` when there is something of that name, or when it would be inside of `base`, which is to be
    copied into it.
    """
    if path.exists() or path.is_symlink():
        raise InvalidValue(f"{path} is there already and nothing is overwritten: name another folder", field="out")
    if base is not None and base.resolve() in path.resolve().parents:
        raise InvalidValue(f"{path} is inside of {base}, which is copied: name a folder elsewhere", field="out")
    with staged(path) as folder:
        yield folder


def base_folder(source: str) -> Path | None:
    """The folder that a generator's source names, by itself or as its family's argument; None if it names none.

    Raises `GeneratorNotFound` when it is not of a family and names no generator's folder either.
    """
    family, _, argument = source.partition(":")
    if family not in families():
        return folder_of(source)
    folder = Path(argument)
    return folder if argument and folder.is_dir() else None


def dump(network: InputNetwork) -> bytes:
    """An input network's weights as safetensors. The same weights give the same bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def write_generator(folder: Path, card: Card, weights: bytes, base: Path | None) -> None:
    """Fill a folder with a conditioned generator; `base` is the base's folder, if it has one. The card is last."""
    folder.mkdir(exist_ok=True)
    if base is not None:
        shutil.copytree(base, folder / BASE)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
