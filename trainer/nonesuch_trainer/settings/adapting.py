"""How batch norm is adapted (Besnier et al. 2019, section 3.3)."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nonesuch.model import Frozen
from nonesuch.orders import Seed

Form = Literal["cumulative", "ema"]
ALPHA = 0.1
"""The default update factor of the ema form of batch norm adaptation: torch's."""


class BNAConfig(Frozen):
    """How the statistics of batch norm are adapted."""

    form: Form = "cumulative"
    alpha: float | None = Field(default=None, gt=0, le=1)
    """α, the update factor of the ema form; None is `ALPHA`. The cumulative form has none."""
    source_weight: float = Field(default=0.0, ge=0, lt=1)
    """λ, the share of the statistics that the classifier had before; 0 leaves nothing of them."""
    batch_size: int = Field(default=256, ge=2)
    """How many images a batch has at most: batches are alike in size, to within one image."""
    images: int = Field(default=10_000, ge=2)
    """How many images to adapt to at most, drawn by the seed."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _alpha_is_used(self) -> Self:
        if self.form == "cumulative" and self.alpha is not None:
            raise ValueError(f"alpha {self.alpha} belongs to the form ema: leave it out, or choose that form")
        return self

    def weights(self, batches: int) -> NDArray[np.float64]:
        """The weight of each of T batches, (T,). In the ema form the source has the rest that is missing to 1."""
        if self.form == "cumulative":
            return np.full(batches, 1 / batches)
        alpha = ALPHA if self.alpha is None else self.alpha
        return alpha * (1 - alpha) ** np.arange(batches - 1, -1, -1, dtype=np.float64)


class Adapt(BNAConfig):
    """A run's last step: its classifier once more, with batch norm adapted to real images without labels."""

    to: str = Field(min_length=1)
    """The images to adapt to: a folder of images, a Parquet file or a folder of them, an IDX file, or
    fashion-mnist/train (`nonesuch.realdata.unlabelled.read_images`)."""
