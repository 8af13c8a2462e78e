"""The label that each index of an order has: a function of the order alone, so every worker agrees.

Three kinds, chosen by `kind`: `balanced` (round robin over classes: any slice is balanced to within one), `quota`
(exact counts by class, interleaved in proportion), `explicit` (a list).
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nonesuch.errors import InvalidOrder
from nonesuch.model import Frozen

ClassIndex = Annotated[int, Field(ge=0, le=65_535)]
MAX_EXPLICIT = 65_536


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


def resolve_classes(classes: Sequence[str | int] | None, class_names: Sequence[str]) -> tuple[int, ...]:
    """Class names or indices as indices; None means every class. Case does not matter in names.

    Raises `InvalidOrder` that names the first unknown class and the nearest known ones.
    """
    if classes is None:
        return tuple(range(len(class_names)))
    by_name = {name.casefold(): i for i, name in enumerate(class_names)}
    found = []
    for given in classes:
        index = given if isinstance(given, int) else by_name.get(given.casefold())
        if index is None and isinstance(given, str) and given.isdecimal():
            index = int(given)
        if index is None or not 0 <= index < len(class_names):
            near = get_close_matches(str(given).casefold(), by_name, n=3, cutoff=0.5)
            hint = (
                f"did you mean {', '.join(class_names[by_name[n]] for n in near)}?"
                if near
                else (f"classes are {', '.join(class_names[:10])}{', …' if len(class_names) > 10 else ''}")
            )
            raise InvalidOrder(f"unknown class {given!r}: {hint}", field="classes")
        found.append(index)
    if not found:
        raise InvalidOrder("the list of classes is empty: name at least one, or leave it out for all", field="classes")
    return tuple(found)
