"""What describes a classifier without building it. No torch: settings and headers are read where there is none."""

from typing import TYPE_CHECKING, Self

from pydantic import Field, field_validator, model_validator

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen, Name

if TYPE_CHECKING:
    from torch import Tensor


class ClassifierSpec(Frozen):
    """A classifier's architecture and its arguments, without what depends on the data: channels, classes, size."""

    architecture: Name
    args: dict[str, int | float | str | bool] = Field(default_factory=dict)


class Normalisation(Frozen):
    """Mean and standard deviation of the inputs in [0, 1]: a value for each channel, or a bare number for all."""

    mean: tuple[float, ...] = Field(default=(0.5,), min_length=1)
    std: tuple[float, ...] = Field(default=(0.5,), min_length=1)

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _one_for_all(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} standard deviations: give as many of each")
        if min(self.std) <= 0:
            raise ValueError(f"standard deviations {self.std} must be positive: inputs are divided by them")
        return self

    def apply(self, x_NCHW: "Tensor") -> "Tensor":
        """Normalise float images (B, C, H, W) in [0, 1]. Raises `InvalidValue` for another number of channels."""
        if len(self.mean) not in (1, x_NCHW.shape[1]):
            raise InvalidValue(
                f"images {tuple(x_NCHW.shape)} have {x_NCHW.shape[1]} channels and the normalisation is for "
                f"{len(self.mean)}: give one value for each channel, or one for all"
            )
        mean, std = (x_NCHW.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x_NCHW - mean) / std
