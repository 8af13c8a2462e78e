"""Splits by the names of files and folders.

Read are "train", "validation" (or "val", "valid") and "test", as torchvision's users and Hugging Face name them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from nonesuch.errors import DataNotFound, InvalidValue
from nonesuch.realdata.fashion_mnist import Split

T = TypeVar("T")

SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
"""The splits, by the names that folders and shards of them have."""
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def by_split(named: Mapping[str, T], where: Path) -> dict[Split, T]:
    """What has one of the names in `SPLITS`, by its split. Raises `InvalidValue` if two are the same split's."""
    found: dict[Split, T] = {}
    for name, value in named.items():
        if (split := SPLITS[name]) in found:
            both = " and ".join(other for other in named if SPLITS[other] == split)
            raise InvalidValue(f"{where} has {both}, which both mean {split}: keep one of them")
        found[split] = value
    return found


def files_by_split(folder: Path, files: Sequence[Path]) -> dict[Split, list[Path]]:
    """Files below a folder by their split: "train-00000-of-00003.parquet", "data/val/0.parquet".

    The name of a file counts first, then those of the folders that it lies in. Files that name no split are "train" if
    none does.

    Raises:
        InvalidValue: some name a split and others do not, or one names two, or a split has two names.
        DataNotFound: one of a numbered series (00000-of-00003) is missing.
    """
    named: dict[str, list[Path]] = {}
    for path in files:
        named.setdefault(_split_name(path, folder), []).append(path)
    for series in named.values():
        _check_complete(series)
    unnamed = named.pop("", [])
    if unnamed and named:
        raise InvalidValue(
            f"{unnamed[0]} names no split, but {next(iter(named.values()))[0]} does: move one of them to another folder"
        )
    return {"train": unnamed} if unnamed else by_split(named, folder)


def _split_name(path: Path, folder: Path) -> str:
    """The name of a split in a path below a folder, "" if there is none."""
    for part in (path.stem, *path.relative_to(folder).parts[-2::-1]):
        words = set(re.split(r"[-_. ]|\d+", part.lower())) & SPLITS.keys()
        if len(words) > 1:
            raise InvalidValue(f"{path} names more than one split, {' and '.join(sorted(words))}: rename it")
        if words:
            return words.pop()
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
