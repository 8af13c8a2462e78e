"""What a smoothed dataset is to hold, and how long its images are waited for. No I/O, no torch."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from nonesuch.model import Frozen, Name
from nonesuch.orders import Seed

Victims = Literal["random", "oldest"]
"""How the images are chosen that fresh ones replace: drawn at random, or the oldest."""


class Wait(Frozen):
    """Wait for every image that was ordered."""

    kind: Literal["wait"] = "wait"
    patience_s: float = Field(default=600.0, gt=0)
    """The wait ends with `TakeTimeout` when no batch at all comes for so many seconds."""


class Skip(Frozen):
    """Go on with what has come, and report it: r is then smaller than asked for."""

    kind: Literal["skip"]
    patience_s: float = Field(default=5.0, ge=0)
    """How many seconds an epoch that is trained waits for its images."""


class Smoothing(Frozen):
    """Dataset smoothing (Besnier et al. 2019, Alg. 2): N images, r·N of which are fresh in every epoch."""

    size: int = Field(ge=2, le=10_000_000)
    """N, the number of images in the dataset."""
    replace: float = Field(ge=0, le=1)
    """r: 0 is a fixed dataset, 1 continuous sampling."""
    mined: float = Field(ge=0, le=1)
    """The share of the fresh images that are mined; the others are drawn at random."""
    generator: Name | None
    classes: tuple[str | int, ...] | None
    strategy: Name
    """The strategy that makes the mined images."""
    params: dict[str, JsonValue]
    """The parameters of the strategy that makes the mined images."""
    random_params: dict[str, JsonValue]
    """The parameters of the strategy `random`, which makes all the other images."""
    staleness: Literal[0, 1]
    victims: Victims
    seed: Seed

    @property
    def fresh(self) -> int:
        """How many images are replaced in an epoch: r·N, rounded."""
        return round(self.replace * self.size)

    @property
    def aimed(self) -> int:
        """How many of an epoch's fresh images are mined."""
        return round(self.mined * self.fresh)

    @model_validator(mode="after")
    def _does_what_it_says(self) -> Self:
        if self.replace > 0 and self.fresh == 0:
            raise ValueError(
                f"replace {self.replace:g} of size {self.size} is not a single image: raise either, or set replace to "
                "0 for a fixed dataset"
            )
        return self
