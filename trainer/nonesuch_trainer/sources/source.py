"""The source of a run's images: the service (`minted`, `collected`), a folder (`real`), or both (`augmented`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import torch

from nonesuch.classifiers.published import Snapshot
from nonesuch.smoothed.resident import ResidentDataset
from nonesuch.smoothed.settings import Victims
from nonesuch.smoothed.source import Came, OnProgress
from nonesuch.tally import NOTHING, Tally
from nonesuch_trainer.learning.facts import Facts


@dataclass(frozen=True, eq=False)
class First:
    """What a run begins with: the dataset that its first epoch learns from."""

    dataset: ResidentDataset
    tally: Tally = NOTHING
    """What became of the latents that were tried for the dataset."""


@dataclass(frozen=True, eq=False)
class Fresh:
    """The images that came for one epoch."""

    came: Came
    age: int | None
    """The age of the oldest batch: the trainer's snapshot version less the one that it was aimed at; None if no batch
    came."""

    @property
    def numbers(self) -> dict[str, Any]:
        """What came, in numbers: fields of `EpochRecord`, by name."""
        tally = self.came.tally
        return {
            "ordered": self.came.ordered,
            "replaced": len(self.came.images),
            "short": self.came.short.total(),
            "tried": tally.tried.total(),
            "wrong_label": tally.wrong_label.total(),
            "below_threshold": tally.below_threshold.total(),
            "age": self.age,
            "mint_s": self.came.mint_s,
            "wait_s": self.came.wait_s,
        }


class Renewal(Protocol):
    """A source that goes on giving: dataset smoothing (Besnier et al. 2019, Alg. 2)."""

    staleness: Literal[0, 1]
    victims: Victims

    def publish(self, snapshot: Snapshot) -> None:
        """Make the classifier known to those who choose the images, in the run's own channel."""

    def order(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> None:
        """Ask for the images that are fresh in epoch `birth`, aimed at snapshot `version`. Does not wait for them.

        `errors` in [0, 1] by label set the class quotas of a run that has them; None is none known yet.
        """

    def poll(self) -> None:
        """Take in the images that have come. Does not wait."""

    def collect(self, version: int, on_progress: OnProgress) -> Fresh:
        """The images that were ordered last. Blocks until they are complete, or late by the run's policy.

        `version` is that of the trainer's latest snapshot.
        """


class Source(Protocol):
    """Images for one run. A context: leaving it withdraws whatever was asked for and has not come."""

    @property
    def facts(self) -> Facts: ...

    @property
    def renewal(self) -> Renewal | None:
        """How the dataset is renewed; None if it is fixed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        """The dataset that the first epoch learns from, on the device. Blocks until it is complete."""
