"""Sources of labelled real images: where each keeps which split, and what its labels and classes are.

A folder of class folders, Parquet, IDX, NPZ. Nothing is read here but names; labels and images when a part is asked.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.realdata import npz, sources
from nonesuch.realdata.fashion_mnist import IDX_FILES, Split, idx_file, read_idx
from nonesuch.realdata.shards import Shards
from nonesuch.realdata.sources import Arrays, ImageFiles, ImageSource, files_in, first_bytes, is_idx, reading
from nonesuch.realdata.splits import check_no_splits_below, files_by_split, split_folders, split_word, tree_of

KINDS = f"{sources.KINDS} with its labels beside it, an NPZ file, or fashion-mnist"
_CLASS_NAMES = "class_names.json"
_NPZ: dict[Split, tuple[tuple[str, str], ...]] = {  # images and labels, as we, Keras and MedMNIST call them
    "train": (("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels")),
    "validation": (("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


@dataclass(frozen=True)
class LabelledSplit:
    """One split of a source, as it is stored."""

    name: str
    """The name of the split's folder or file, for messages."""
    labels: Callable[[], NDArray[Any]]
    """Reads (N,) integers, or strings."""
    images: Callable[[], ImageSource]
    """Opens the N images."""
    called: str | None = None
    """What the source calls the split, in its own spelling; None if it does not."""


@dataclass(frozen=True)
class LabelledSource:
    """A source of labelled images: the splits that it has, and the names of its classes if it declares them."""

    parts: Mapping[Split, LabelledSplit]
    class_names: tuple[str, ...] | None


def open_labelled(path: Path) -> LabelledSource:
    """Find out what a source is. Raises what `labelled.read_labelled` does."""
    if path.is_dir():
        if any(idx_file(path, images) for images, _ in IDX_FILES.values()):
            return _idx_folder(path)
        images, shards = files_in(path)
        return _class_folders(path, images) if images else _parquet(files_by_split(path, shards), path)
    match first_bytes(path, KINDS):
        case b"PAR1":
            return _parquet({"train": [path]})
        case b"PK\x03\x04":
            return _npz(path)
        case start if is_idx(start):
            return LabelledSource({"train": _idx_part(path, _labels_beside(path))}, _declared(path.parent))
        case start:
            raise InvalidValue(
                f"{path} is neither a Parquet, an IDX nor an NPZ file (it starts with {start.hex() or 'nothing'}): "
                f"name {KINDS}"
            )


def _class_folders(folder: Path, files: Sequence[Path]) -> LabelledSource:
    """FOLDER/<class>/…, or FOLDER/<split>/<class>/…; classes are sorted by name. `files` are all images, sorted."""
    tree = tree_of(folder, files)
    for place, inner in tree.items():
        for name in inner:
            sources.check_text(place / name)
    splits = split_folders(folder, tree)
    roots = splits or {"train": folder}
    for root in roots.values():
        check_no_splits_below(root, tree, folder)
    names = tuple(sorted(_classes(roots.get("train") or next(iter(roots.values())))))
    parts = {split: _class_part(root, files, names, root.name if splits else None) for split, root in roots.items()}
    return LabelledSource(parts, names)


def _class_part(root: Path, files: Sequence[Path], names: tuple[str, ...], called: str | None) -> LabelledSplit:
    @cache
    def images() -> list[Path]:
        return [path for path in files if path.is_relative_to(root) and path.parent != root]

    def labels() -> NDArray[np.int64]:
        numbers = {name: i for i, name in enumerate(names)}
        own = _classes(root)
        if not own:
            raise DataNotFound(
                f"{root} has no class folders: put the images of each class into a folder with the class's name"
            )
        if unknown := own.keys() - numbers.keys():
            raise InvalidValue(
                f"{root / own[min(unknown)]} is no class of the training images: rename it, or take it away"
            )
        depth = len(root.parts)
        by_folder = {folder: numbers[name] for name, folder in own.items()}
        return np.array([by_folder[path.parts[depth]] for path in images()], np.int64)

    return LabelledSplit(str(root), labels, lambda: ImageFiles(images()), called)


def _classes(root: Path) -> dict[str, str]:
    """The folder of each class, by the class's name: the folder's, in the Unicode form NFC."""
    with reading(root, KINDS):
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found: dict[str, str] = {}
    for folder in folders:
        sources.check_text(folder)
        name = normalize("NFC", folder.name)
        if name in found:
            raise InvalidValue(
                f"{root} has two folders called {name!r}, in different Unicode forms ({found[name]!a} and "
                f"{folder.name!a}): put the images into one of them"
            )
        found[name] = folder.name
    return found


def _parquet(files: Mapping[Split, Sequence[Path]], folder: Path | None = None) -> LabelledSource:
    shards = {split: Shards(paths) for split, paths in files.items()}
    names = (shards.get("train") or next(iter(shards.values()))).class_names()

    def images(split: Split) -> ImageSource:
        return shards[split]

    def called(split: Split) -> str | None:
        return None if folder is None else split_word(files[split][0], folder) or None

    parts = {s: LabelledSplit(str(files[s][0]), shards[s].labels, partial(images, s), called(s)) for s in shards}
    return LabelledSource(parts, names)


def _idx_folder(folder: Path) -> LabelledSource:
    parts: dict[Split, LabelledSplit] = {}
    for split, (images, labels) in IDX_FILES.items():
        if found := idx_file(folder, images):
            beside = idx_file(folder, labels)
            if beside is None:
                raise DataNotFound(f"{folder} has {found.name}, but no {labels} (.gz or not): put it there")
            parts[split] = _idx_part(found, beside)
    return LabelledSource(parts, _declared(folder))


def _labels_beside(images: Path) -> Path:
    """The labels file of an images file: train-labels-idx1-ubyte of train-images-idx3-ubyte.gz."""
    plain = images.name.removesuffix(".gz")
    wanted = re.sub(r"idx\d", "idx1", plain.replace("images", "labels"))
    if "images" not in plain:
        raise InvalidValue(
            f"{images} may hold images or labels: name both files like train-images-idx3-ubyte and "
            "train-labels-idx1-ubyte, and give the one with the images"
        )
    if (found := idx_file(images.parent, wanted)) is None:
        raise DataNotFound(f"{images} has no labels: put {wanted} (.gz or not) beside it")
    return found


def _idx_part(images: Path, labels: Path) -> LabelledSplit:
    def read() -> NDArray[np.uint8]:
        found = read_idx(labels)
        if found.ndim != 1:
            raise InvalidValue(f"{labels} holds {found.shape}, not labels (N,): are these the images?")
        return found

    return LabelledSplit(str(images), read, lambda: Arrays(read_idx(images), str(images)))


def _declared(folder: Path) -> tuple[str, ...] | None:
    """What class_names.json in a folder says, a list of strings by label."""
    path = folder / _CLASS_NAMES
    if not path.exists():
        return None
    try:
        names = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is no JSON ({error}): write a list of strings, or remove it") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidValue(f"{path} is no list of strings: write one name for each class, in the order of the labels")
    return tuple(names)


def _npz(path: Path) -> LabelledSource:
    present = npz.names_in(path)
    parts: dict[Split, LabelledSplit] = {}
    for split, pairs in _NPZ.items():
        for images, labels in pairs:
            if images in present and labels not in present:
                raise DataNotFound(f"{path} has {images!r}, but no {labels!r}: save the labels with the images")
            if images in present:
                source = partial(npz.read_images, path, images)
                parts.setdefault(
                    split, LabelledSplit(f"{images!r} of {path}", partial(npz.read_labels, path, labels), source)
                )
    if not parts:
        known = ", ".join(f"{images} and {labels}" for pairs in _NPZ.values() for images, labels in pairs)
        raise InvalidValue(f"{path} has the arrays {', '.join(sorted(present))}: name them {known}")
    names = tuple(map(str, npz.read_array(path, "class_names").tolist())) if "class_names" in present else None
    return LabelledSource(parts, names)
