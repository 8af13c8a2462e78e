"""Splits by the names of files and folders, in the spellings that are about: "train", "Training", "train_set", "dev".

What a word means is what Hugging Face's `datasets` takes it for, so "eval" is the test split: nothing is tuned on it.
Where a name could be a split's or a class's, nothing is guessed: it is refused.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from nonesuch.errors import DataNotFound, InvalidValue
from nonesuch.realdata.fashion_mnist import Split

T = TypeVar("T")
Tree = Mapping[Path, set[str]]
"""The folders in each folder that have files somewhere below them."""

_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "devel": "validation",
    "development": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "evaluation": "test",
    "eval": "test",
}
_FILLERS = "sets?|datasets?|data|images?|imgs?|pictures?|photos?|pics?|samples?|splits?|folder|partition|subset"
"""Words that say no more of a split: train_set, TestImages, valdata."""
_FILLER = re.compile(_FILLERS)
_WITH_FILLER = re.compile(rf"({'|'.join(_WORDS)})(?:{_FILLERS})?")
_BOTH = re.compile(r"trainval|traintest|valtest|devtest")
_CLASSES_TOO = {"train", "valid"}
"""Words that are names of things: a train beside a car, valid beside invalid."""
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def split_of(name: str) -> Split | None:
    """The split that a name means and nothing else: of "Training", "test_set", "val". None if it has other words.

    Raises `InvalidValue` for a name of several splits.
    """
    words, others = _read(name)
    return _one(words, name) if words and not others else None


def by_split(named: Mapping[str, T], where: Path) -> dict[Split, T]:
    """What has a name with a word for a split in it, by this split. Raises `InvalidValue` if two are the same one's."""
    found: dict[Split, T] = {}
    names: dict[Split, str] = {}
    for name, value in named.items():
        split = _one(_read(name)[0], str(where / name))
        if split in found:
            raise InvalidValue(f"{where} has {names[split]} and {name}, which both mean {split}: keep one of them")
        found[split], names[split] = value, name
    return found


def tree_of(folder: Path, files: Iterable[Path]) -> Tree:
    """The folders below `folder` that lead to `files`."""
    tree: dict[Path, set[str]] = {}
    for place in {path.parent for path in files}:
        while place != folder and place.name not in tree.setdefault(place.parent, set()):
            tree[place.parent].add(place.name)
            place = place.parent
    return tree


def split_folders(folder: Path, tree: Tree) -> dict[Split, Path]:
    """The folders right in a folder that are splits, or none if it has no such folders.

    They are splits if all of them have a split's name (folders without files do not count), or if some mean "train" and
    another split; what lies beside them is not theirs then. "seg_train" is a split's name where there is a "seg_test".

    Raises:
        InvalidValue: one name means two splits, two mean the same, or one looks like a split among classes. A lone
            folder `train` or `valid` with files right in it is a class.
    """
    present = sorted(tree.get(folder, ()))
    splits = _split_names(present)
    others = [name for name in present if name not in splits]
    if not splits:
        return {}
    found = by_split({name: folder / name for name in splits}, folder)
    if not others:
        return found
    if len(found) > 1 and "train" in found:
        if both := {name for root in found.values() for name in tree.get(root, ())}.intersection(others):
            raise InvalidValue(
                f"{folder} has the folder {min(both)}, and so has {min(found.values()).name} in it: move {min(both)} "
                "into a split, or take it away"
            )
        return found
    flat = not any(folder / name in tree for name in splits)
    if flat and {" ".join(_words(name)) for name in splits} <= _CLASSES_TOO:
        return {}
    split, root = next(iter(found.items()))
    raise InvalidValue(
        f"{root} looks like the {split} split, but {folder / others[0]} beside it like a class: move it elsewhere if "
        f"it is a split, or rename it if it is a class, as in {root.name}-class"
    )


def check_no_splits_below(root: Path, tree: Tree, within: Path) -> None:
    """Refuse splits in a folder of classes, or in a class, where they would be mixed.

    Args:
        root: the folder of classes.
        tree: of the source.
        within: the source, for the message.

    Raises `InvalidValue` that says what can be named instead.
    """
    for place in sorted(tree):
        if not place.is_relative_to(root) or place == within:
            continue
        if found := split_folders(place, tree):
            raise InvalidValue(
                f"{place} has the splits {', '.join(path.name for path in found.values())}, and lies where a class is "
                f"expected: splits come first, then classes, as in {within / next(iter(found.values())).name}/CLASS"
                + (f", or name {place} itself" if len(tree.get(within, ())) == 1 else "")
            )


def _split_names(names: Sequence[str]) -> list[str]:
    read = {name: _read(name) for name in names}
    alike: dict[tuple[str, ...], set[Split]] = {}
    for words, others in read.values():
        alike.setdefault(others, set()).update(words)
    return [name for name, (words, others) in read.items() if words and (not others or len(alike[others]) > 1)]


def _read(name: str) -> tuple[set[Split], tuple[str, ...]]:
    """The splits that a name has words for, and its other words."""
    splits: set[Split] = set()
    others = []
    for word in _words(name):
        if match := _WITH_FILLER.fullmatch(word):
            splits.add(_WORDS[match[1]])
        elif _BOTH.fullmatch(word):
            splits |= {_WORDS[part] for part in re.findall("train|val|dev|test", word)}
        elif not _FILLER.fullmatch(word):
            others.append(word)
    return splits, tuple(others)


def _words(name: str) -> list[str]:
    """The words of "TrainSet-01_b": train, set, b."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_\d]+", parted.casefold()) if word]


def _one(splits: set[Split], name: str) -> Split:
    if len(splits) > 1:
        raise InvalidValue(f"{name} names more than one split, {' and '.join(sorted(splits))}: rename it")
    return next(iter(splits))


def files_by_split(folder: Path, files: Sequence[Path]) -> dict[Split, list[Path]]:
    """Files below a folder by their split: "train-00000-of-00003.parquet", "data/val/0.parquet".

    The name of a file counts first, then those of the folders that it lies in; other words in them do no harm. Files
    that name no split are "train" if none does.

    Raises:
        InvalidValue: some name a split and others do not, or one names two, or a split has two names.
        DataNotFound: one of a numbered series (00000-of-00003) is missing.
    """
    named: dict[str, list[Path]] = {}
    for path in files:
        named.setdefault(split_word(path, folder), []).append(path)
    for series in named.values():
        _check_complete(series)
    unnamed = named.pop("", [])
    if unnamed and named:
        raise InvalidValue(
            f"{unnamed[0]} names no split, but {next(iter(named.values()))[0]} does: move one of them to another folder"
        )
    return {"train": unnamed} if unnamed else by_split(named, folder)


def split_word(path: Path, folder: Path) -> str:
    """The word for a split in a path below a folder, "" if there is none. Raises `InvalidValue` for several splits."""
    for part in (path.stem, *path.relative_to(folder).parts[-2::-1]):
        splits, _ = _read(part)
        if splits:
            _one(splits, str(path))
            return next(word for word in _words(part) if _WITH_FILLER.fullmatch(word))
    return ""


def _check_complete(files: Sequence[Path]) -> None:
    series: dict[tuple[Path, str, str], set[int]] = {}
    for path in files:
        if match := _NUMBERED.match(path.stem):
            series.setdefault((path.parent, match[1], match[3]), set()).add(int(match[2]))
    for (folder, stem, total), numbers in series.items():
        if missing := set(range(int(total))) - numbers:
            raise DataNotFound(
                f"{folder} lacks {len(missing)} of the {int(total)} shards of {stem!r}, the first of them "
                f"{stem}-{min(missing):05d}-of-{total}: put them there"
            )
