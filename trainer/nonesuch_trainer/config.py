"""What a run is: one frozen model, read from TOML."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from nonesuch.classifiers import ClassifierSpec, Normalisation
from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen, Name
from nonesuch.orders import MAX_TICKET, Seed
from nonesuch.realdata import Split

RunName = Annotated[Name, Field(max_length=40)]
"""Short enough to be the start of other names (`ordering.service_name`)."""


class Recipe(Frozen):
    """How images are chosen: a strategy, its parameters, and its share where there are several recipes."""

    strategy: Name = "random"
    params: dict[str, JsonValue] = Field(default_factory=dict)
    share: float = Field(default=1.0, gt=0)
    """Relative to the other recipes' shares."""


class Wait(Frozen):
    """Wait for every image that was ordered."""

    kind: Literal["wait"] = "wait"
    patience_s: float = Field(default=600.0, gt=0)
    """The run ends with `TakeTimeout` when no batch at all comes for this long."""


class Skip(Frozen):
    """Go on with what has come, and report it: r is then smaller than asked for."""

    kind: Literal["skip"]
    patience_s: float = Field(default=5.0, ge=0)
    """How long an epoch that is trained waits for its images."""


class Minted(Frozen):
    """A dataset that the service mints: dataset smoothing (Besnier et al. 2019, Alg. 2).

    `replacement` is r: 0 is the fixed dataset, 1 continuous sampling.
    """

    kind: Literal["minted"] = "minted"
    generators: tuple[Name, ...] = Field(default=("fashion-mnist",), min_length=1)
    classes: tuple[str | int, ...] | None = None
    """Names or indices; None takes all. The classifier has an output for every class of the generators anyway."""
    size: int = Field(default=4000, ge=2)
    """N, in images."""
    replacement: float = Field(default=0.5, ge=0, le=1)
    victims: Literal["random", "oldest"] = "random"
    """Which images an epoch's fresh ones replace."""
    first: Recipe = Recipe()
    """Of the dataset that the first epoch learns from (line 5 of Alg. 2)."""
    fresh: tuple[Recipe, ...] = Field(default=(Recipe(),), min_length=1)
    """Of the r·N images that come in after each epoch (lines 8 and 9)."""
    staleness: Literal[0, 1] = 0
    """0: an epoch's images are ordered when it is trained, and aimed at it. 1: they are minted while it trains, and
    aimed at the epoch before."""
    late: Annotated[Wait | Skip, Field(discriminator="kind")] = Wait()
    outage_s: float = Field(default=300.0, ge=0)
    """How long to wait for a Redis, a ring or workers that have gone, before giving up."""
    ticket_size: int | None = Field(default=None, ge=1, le=MAX_TICKET)
    """In images; None is 64, or as many as fit into a slot."""
    ring_slots: int = Field(default=16, ge=1, le=4096)
    """Tickets that Redis holds for this run at most; when they are full, the workers wait."""

    @property
    def fresh_images(self) -> int:
        """Images that are replaced after each epoch: r·N, rounded."""
        return round(self.replacement * self.size)

    @model_validator(mode="after")
    def _replaces_something(self) -> Self:
        if self.replacement > 0 and self.fresh_images < len(self.fresh):
            raise ValueError(
                f"replacement {self.replacement} of size {self.size} is {self.fresh_images} images for "
                f"{len(self.fresh)} recipe(s): raise either, or set replacement to 0 for a fixed dataset"
            )
        return self


class Real(Frozen):
    """A fixed dataset of real images, for reference: a class-balanced subset, drawn by the seed."""

    kind: Literal["real"]
    data: Literal["fashion-mnist"] = "fashion-mnist"
    folder: Path | None = None
    split: Literal["train"] = "train"
    size: int = Field(default=4000, ge=2)


class Optimiser(Frozen):
    """Stochastic gradient descent as in Besnier et al. 2019, section 4."""

    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=1e-4, ge=0)
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.6, 0.8)
    """Fractions of the run at which the learning rate is multiplied by `decay`."""
    decay: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Over which the learning rate rises linearly from 0."""


class Augment(Frozen):
    """Changes to each image whenever it is shown."""

    shift: int = Field(default=0, ge=0)
    """Pixels by which it is moved at most, in each direction; black comes in."""
    hflip: bool = False
    """Mirrored with probability 1/2."""


class Evaluate(Frozen):
    """Real images that judge the classifier. Nothing is learned from them, and nothing chosen by them."""

    data: Literal["fashion-mnist"] = "fashion-mnist"
    folder: Path | None = None
    split: Split = "test"
    every: int = Field(default=1, ge=1)
    """In epochs; the last epoch is judged in any case."""


class TrainConfig(Frozen):
    """A training run."""

    run: RunName
    """Its ring, orders and snapshots in the service have names that start with it."""
    seed: Seed = 0
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=128, ge=2)
    classifier: ClassifierSpec = ClassifierSpec(architecture="resnet18", args={"width": 16})
    normalisation: Normalisation = Normalisation()
    dataset: Annotated[Minted | Real, Field(discriminator="kind")] = Minted()
    optimiser: Optimiser = Optimiser()
    augment: Augment = Augment()
    evaluate: Evaluate = Evaluate()
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the convolutions (autocast)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    out: Path | None = None
    """The run's folder; None is runs/<run>."""
    checkpoint_every: int = Field(default=1, ge=1)
    """In epochs."""

    @property
    def folder(self) -> Path:
        """Where everything that the run writes goes."""
        return self.out or Path("runs") / self.run


def load(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file. `overrides` are `dotted.name=value`, the value as in TOML (a bare word is a string).

    Raises `InvalidValue` when the file is missing or not TOML, or with a line for each value that cannot work.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValue(f"cannot read the training config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _override(given, override)
    return validated(TrainConfig, given, str(path))


def _override(given: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise InvalidValue(f"override {override!r} is not name=value, for example dataset.size=2000")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, key = name.split(".")
    for table in tables:
        given = given.setdefault(table, {})
        if not isinstance(given, dict):
            raise InvalidValue(f"override {override!r}: {table!r} is a value, not a table")
    given[key] = value
