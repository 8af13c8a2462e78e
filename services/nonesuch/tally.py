"""What became of the latents that a choosy strategy tried, by class (Pham et al. 2019, figures 6 and 7).

Every latent that is tried ends in one of three ways: its image is kept, or it is rejected by its label (the teacher
recognises another class), or by the threshold (the right class, but not surely enough). An index for which no latent
within the allowed number of attempts was kept is short: the order delivers fewer images, and says so here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


def _none() -> Counter[int]:
    return Counter()


@dataclass(frozen=True)
class Tally:
    """Counts by label. Adding two gives the tally of both; the empty one is false."""

    tried: Counter[int] = field(default_factory=_none)
    """Latents whose images were looked at."""
    wrong_label: Counter[int] = field(default_factory=_none)
    """Latents whose images the teacher took for another class."""
    below_threshold: Counter[int] = field(default_factory=_none)
    """Latents whose images were of the right class, with a probability that was not above the threshold."""
    short: Counter[int] = field(default_factory=_none)
    """Indices that were given up."""

    @property
    def kept(self) -> Counter[int]:
        """Latents whose images were accepted."""
        return Counter({k: n - self.wrong_label[k] - self.below_threshold[k] for k, n in self.tried.items()})

    def acceptance(self, label: int | None = None) -> float:
        """The fraction of the latents that was kept, of one class or of all; NaN where none was tried."""
        tried = self.tried.total() if label is None else self.tried[label]
        kept = self.kept.total() if label is None else self.kept[label]
        return kept / tried if tried else float("nan")

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def counters(self) -> dict[str, int]:
        """`{"tried:3": 12, ...}`: what is not 0, in a form that can be added up anywhere."""
        return {f"{f.name}:{k}": n for f in fields(self) for k, n in sorted(getattr(self, f.name).items()) if n}

    def table(self, class_names: Sequence[str]) -> list[dict[str, str | int]]:
        """A row of counts for each class of which a latent was tried, for people and files."""
        kept = self.kept
        return [
            {
                "class": class_names[k],
                "tried": n,
                "kept": kept[k],
                "wrong_label": self.wrong_label[k],
                "below_threshold": self.below_threshold[k],
                "short": self.short[k],
            }
            for k, n in sorted(self.tried.items())
        ]

    @classmethod
    def from_counters(cls, counters: Mapping[str, int]) -> Self:
        """The tally whose `counters` these are."""
        found: dict[str, Counter[int]] = {f.name: Counter() for f in fields(cls)}
        for name, n in counters.items():
            kind, _, label = name.partition(":")
            found[kind][int(label)] = int(n)
        return cls(**found)


NOTHING = Tally()
"""The tally of a strategy that rejects nothing."""


def count(labels: NDArray[np.int32]) -> Counter[int]:
    """How often each label occurs in (n,) labels."""
    found, n = np.unique(labels, return_counts=True)
    return Counter(dict(zip(found.tolist(), n.tolist(), strict=True)))
