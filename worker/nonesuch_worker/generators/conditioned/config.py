"""What a conditioning is: one frozen model."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from nonesuch.config import validated
from nonesuch.host.toml import read_toml
from nonesuch.model import Frozen

Resample = Literal["nearest", "bilinear"]
"""How an image comes to a classifier's size: nearest neighbour (the paper's), or bilinear, smoothed if it shrinks."""
DEFAULT_WEIGHT = 0.1


class ConditionConfig(Frozen):
    """How an input network is trained. The paper names none of these numbers; they are ours."""

    hidden: int = Field(default=128, ge=1)
    """Width of the two layers that μ and σ share."""
    iterations: int = Field(default=1000, ge=1)
    batch: int = Field(default=64, ge=2)
    """Images a step; even, because every label is drawn with two ε."""
    lr: float = Field(default=1e-3, gt=0)
    """The learning rate of Adam, with its usual betas."""
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """The seed of the first weights, of what is trained on, and of the images of the report."""
    regulariser: Literal["none", "entropy", "distance"] = "entropy"
    """What keeps the images of a class apart: nothing (the paper), `condition.regularisers.divergence`, or
    `condition.regularisers.ModeSeeking`."""
    weight: float | None = Field(default=None, ge=0)
    """The weight of the regulariser beside the cross-entropy in nats; 0.1 if left out. 0 is the paper's loss."""
    resample: Resample = "nearest"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch % 2:
            raise ValueError(f"batch {self.batch} must be even: every label is drawn with two latents")
        if self.regulariser == "none" and self.weight:
            raise ValueError(f"weight {self.weight:g} has nothing to weigh: choose regulariser entropy or distance")
        return self

    @property
    def strength(self) -> float:
        """The weight in force: 0 without a regulariser."""
        if self.regulariser == "none":
            return 0.0
        return DEFAULT_WEIGHT if self.weight is None else self.weight

    @classmethod
    def read(cls, path: Path | None, **given: Any) -> Self:
        """A config from a TOML file, if there is one, and from what was `given` and is not None, which goes first.

        Raises `InvalidValue`: the file is missing or is not TOML, or holds a name or a value that cannot be used.
        """
        written = {} if path is None else read_toml(path, "config")
        values = {**written, **{name: value for name, value in given.items() if value is not None}}
        return validated(cls, values, "the conditioning" if path is None else f"the conditioning of {path}")
