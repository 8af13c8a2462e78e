"""What a run is: one frozen model, read from TOML."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nonesuch.config import validated
from nonesuch.errors import InvalidValue
from nonesuch.host.toml import read_toml
from nonesuch.model import Name
from nonesuch_trainer.settings.adapting import Adapt
from nonesuch_trainer.settings.datasets import Augmented, ClassQuotas, Dataset, Minted, Real
from nonesuch_trainer.settings.learning import Evaluate, Learning

RunName = Annotated[Name, Field(max_length=40)]
"""The name of a run: short enough to be the start of other names (`nonesuch_trainer.sources.ordering.service_name`)."""


class TrainConfig(Learning):
    """A training run: how a classifier learns, from what, and what judges it."""

    run: RunName
    """The run's name. Its ring, orders and snapshots in the service have names that start with it."""
    dataset: Dataset = Minted()
    evaluate: Evaluate = Evaluate()
    adapt: Adapt | None = None
    """How batch norm is adapted after the last epoch; None leaves its statistics as they were learned."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    out: Path | None = None
    """The run's folder; None is runs/<run>."""
    checkpoint_every: int = Field(default=1, ge=1)
    """How many epochs pass between two checkpoints."""

    @property
    def folder(self) -> Path:
        """The folder that everything goes to that the run writes."""
        return self.out or Path("runs") / self.run

    @property
    def learning(self) -> Learning:
        """The part of the settings that learning takes."""
        return Learning(**{name: getattr(self, name) for name in Learning.model_fields})

    @property
    def quotas(self) -> ClassQuotas | None:
        """The class quotas of the minted images; None if there are none."""
        dataset = self.dataset.minted if isinstance(self.dataset, Augmented) else self.dataset
        return None if isinstance(dataset, Real) else dataset.quotas

    @model_validator(mode="after")
    def _judges_choose_nothing(self) -> Self:
        if self.quotas and self.quotas.split == self.evaluate.split:
            raise ValueError(
                f"the {self.evaluate.split} images judge the run and cannot choose what it learns from: take another "
                "split for quotas, or for evaluate"
            )
        judges = f"{self.evaluate.data}/{self.evaluate.split}"
        if self.adapt and self.adapt.to == judges:
            raise ValueError(f"the images of {judges} judge the run: adapt to others, fashion-mnist/train for example")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file. `overrides` are `dotted.name=value`, the value as in TOML (a bare word is a string).

    Raises `InvalidValue` when the file is missing or not TOML, or with a line for each value that cannot work.
    """
    given = read_toml(path, "training config")
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
