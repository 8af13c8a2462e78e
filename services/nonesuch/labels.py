"""The label that each index of an order has: a function of the order alone, so every worker agrees.

Three kinds, chosen by `kind`: `balanced` (round robin over classes: any slice is balanced to within one), `quota`
(exact counts by class, interleaved in proportion), `explicit` (a list). And the names of classes: they are identifiers,
so each is there once, and means the same wherever it is written.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Literal
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from nonesuch.errors import InvalidOrder, InvalidValue
from nonesuch.model import Frozen

ClassIndex = Annotated[int, Field(ge=0, le=65_535)]
MAX_EXPLICIT = 65_536
MAX_NAME = 255
"""The most characters of a class's name, as of a folder's."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


class Balanced(Frozen):
    """Index i has label `classes[i % len(classes)]`."""

    kind: Literal["balanced"] = "balanced"
    classes: tuple[ClassIndex, ...] = Field(min_length=1)

    @property
    def total(self) -> int | None:
        """None: it labels any number of images."""
        return None

    @property
    def used(self) -> tuple[int, ...]:
        return self.classes

    def of(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.asarray(self.classes, dtype=np.int32)[indices % len(self.classes)]


class Quota(Frozen):
    """`counts[class]` images of each class, interleaved so that every stretch has about the same proportions."""

    kind: Literal["quota"] = "quota"
    counts: dict[ClassIndex, Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def used(self) -> tuple[int, ...]:
        return tuple(sorted(self.counts))

    def of(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        return _interleaved(tuple(sorted((c, n) for c, n in self.counts.items() if n)))[indices]


@lru_cache(maxsize=8)
def _interleaved(counts: tuple[tuple[int, int], ...]) -> NDArray[np.int32]:
    """All labels of a quota. The j-th of a class's n images stands at the fraction (j + 1/2)/n of the order."""
    labels = np.concatenate([np.full(n, c, dtype=np.int32) for c, n in counts])
    places = np.concatenate([(np.arange(n) + 0.5) / n for _, n in counts])
    return labels[np.argsort(places, kind="stable")]


class Explicit(Frozen):
    """Index i has label `labels[i]`."""

    kind: Literal["explicit"] = "explicit"
    labels: tuple[ClassIndex, ...] = Field(min_length=1, max_length=MAX_EXPLICIT)

    @property
    def total(self) -> int:
        return len(self.labels)

    @property
    def used(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.labels)))

    def of(self, indices: NDArray[np.int64]) -> NDArray[np.int32]:
        return np.asarray(self.labels, dtype=np.int32)[indices]


Labels = Annotated[Balanced | Quota | Explicit, Field(discriminator="kind")]


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names by label, as they are used everywhere: in one Unicode form (NFC), each of them once.

    A name that several classes have gets their labels: ImageNet's two cranes are "crane (134)" and "crane (517)". Names
    that are distinct already stay as they are.

    Raises:
        InvalidValue: a name is no text, or too long, or is another class's name once its label stands behind it.
    """
    composed = [normalize("NFC", name) for name in names]
    for label, name in enumerate(composed):
        if not is_text(name):
            raise InvalidValue(f"the name of class {label}, {name!r}, is not UTF-8: write it anew", field="class_names")
        if len(name) > MAX_NAME:
            raise InvalidValue(
                f"the name of class {label}, {name[:40]!r}…, has {len(name)} characters: {MAX_NAME} are possible",
                field="class_names",
            )
    counts = Counter(composed)
    found = tuple(f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(composed))
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise InvalidValue(
            f"several classes are called {twice[0].rpartition(' ')[0]!r} and one {twice[0]!r}, as one of them would be "
            "with its label behind it: rename one",
            field="class_names",
        )
    return found


ClassNames = Annotated[tuple[str, ...], AfterValidator(distinct_names)]
"""The names of classes by label, made distinct as `distinct_names` has it."""


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; one of a file that was named in another encoding cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def resolve_classes(classes: Sequence[str | int] | None, class_names: Sequence[str]) -> tuple[int, ...]:
    """Class names or numbers as labels; None means every class.

    A name counts as it is written, else in any case if only one class is meant then. A number, as text or not, is a
    label where no class has it for a name.

    Args:
        class_names: distinct (`distinct_names`).

    Raises `InvalidOrder` that names the first class that is unknown or could be several, and the nearest known ones.
    """
    if classes is None:
        return tuple(range(len(class_names)))
    exact = {name: label for label, name in enumerate(class_names)}
    folded: dict[str, list[int]] = {}
    for label, name in enumerate(class_names):
        folded.setdefault(_folded(name), []).append(label)
    found = []
    for given in classes:
        name = normalize("NFC", str(given))
        alike = [exact[name]] if name in exact else folded.get(_folded(name), [])
        if len(alike) > 1:
            raise InvalidOrder(
                f"class {given!r} could be {' or '.join(class_names[label] for label in alike)}: write it exactly so",
                field="classes",
            )
        if not alike and _NUMBER.fullmatch(name) and int(name) < len(class_names):
            alike = [int(name)]
        if not alike:
            near = get_close_matches(_folded(name), folded, n=3, cutoff=0.5)
            hint = (
                f"did you mean {', '.join(class_names[label] for key in near for label in folded[key])}?"
                if near
                else (f"classes are {', '.join(class_names[:10])}{', …' if len(class_names) > 10 else ''}")
            )
            raise InvalidOrder(f"unknown class {given!r}: {hint}", field="classes")
        found += alike
    if not found:
        raise InvalidOrder("the list of classes is empty: name at least one, or leave it out for all", field="classes")
    return tuple(found)


def classes_in(texts: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """The names or numbers of classes that a person has written on one line, as `resolve_classes` takes them.

    Each text is a class's name, or several separated by commas, where a name with commas stands in double quotes as in
    CSV: `"tench, Tinca tinca",goldfish`.

    Raises `InvalidOrder` for a quote that is not closed.
    """
    found: list[str] = []
    for text in texts:
        if normalize("NFC", text) in class_names:
            found.append(text)
            continue
        try:
            parts = next(csv.reader([text], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise InvalidOrder(
                f"{text!r} is no list of classes ({error}): separate them by commas, and write a name with commas in "
                "double quotes",
                field="classes",
            ) from None
        found += [part.strip() for part in parts]
    return found


def _folded(name: str) -> str:
    return normalize("NFC", name.casefold())
