"""Where a run's images come from: the service (`minted`, `collected`), a folder (`real`), or both (`augmented`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import torch
from torch import nn

from nonesuch.ledger import Ledger
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset, Victims
from nonesuch.smoothed.supply import OnProgress
from nonesuch.tally import NOTHING, Tally


@dataclass(frozen=True)
class Facts:
    """What is the same for every image of a source."""

    image_shape: tuple[int, int, int]
    """(H, W, C)"""
    class_names: tuple[str, ...]
    """By label; the classifier has an output for each."""
    classes: tuple[int, ...]
    """The labels that occur."""
    ledger: Ledger
    """The real information behind the images."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of whatever weights decide the images, by what they are: a run is not resumed with others."""


@dataclass(frozen=True, eq=False)
class First:
    """What the first epoch learns from."""

    dataset: ResidentDataset
    tally: Tally = NOTHING
    """What became of the latents that were tried."""


@dataclass(frozen=True, eq=False)
class Fresh:
    """What came for one epoch."""

    images: LabelledImages
    ordered: int
    """Images that were asked for."""
    short: int
    """Images that their strategy could not make."""
    age: int | None
    """Of the oldest batch: the trainer's snapshot version less the one that it was aimed at; None if no batch came."""
    mint_s: float
    """From placing the order to its last batch."""
    wait_s: float
    """For which the trainer had nothing else to do."""
    tally: Tally = NOTHING
    """What became of the latents that were tried."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields of `EpochRecord` of the same names."""
        return {
            "ordered": self.ordered,
            "replaced": len(self.images),
            "short": self.short,
            "tried": self.tally.tried.total(),
            "wrong_label": self.tally.wrong_label.total(),
            "below_threshold": self.tally.below_threshold.total(),
            "age": self.age,
            "mint_s": self.mint_s,
            "wait_s": self.wait_s,
        }


class Smoothing(Protocol):
    """A source that goes on giving: dataset smoothing (Besnier et al. 2019, Alg. 2)."""

    staleness: Literal[0, 1]
    victims: Victims

    def publish(self, model: nn.Module, *, epoch: int, step: int, ledger: Ledger) -> None:
        """Make the model known to those who choose the images: its version is the number of epochs that are trained."""

    def order(self, birth: int, version: int, errors: Mapping[int, float] | None = None) -> None:
        """Ask for the images that are fresh in epoch `birth`, aimed at snapshot `version`. Does not wait for them.

        `errors` in [0, 1] by label set the class quotas of a run that has them; None is none known yet.
        """

    def poll(self) -> None:
        """Take in what has come. Does not wait."""

    def collect(self, version: int, on_progress: OnProgress) -> Fresh:
        """What was ordered last. Blocks until it is complete, or late by the run's policy. `version` is today's."""


class Source(Protocol):
    """Images for one run. A context: leaving it withdraws whatever was asked for and has not come."""

    @property
    def facts(self) -> Facts: ...

    @property
    def smoothing(self) -> Smoothing | None:
        """How the dataset is renewed; None if it is fixed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        """The dataset that the first epoch learns from, on the device. Blocks until it is complete."""
