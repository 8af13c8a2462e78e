"""From images to what a classifier takes: (x − mean) / std of x in [0, 1]."""

from typing import Self

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen


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

    def apply(self, x_NCHW: Tensor) -> Tensor:
        """Normalise float images (B, C, H, W) in [0, 1]. Raises `InvalidValue` for another number of channels."""
        if len(self.mean) not in (1, x_NCHW.shape[1]):
            raise InvalidValue(
                f"images {tuple(x_NCHW.shape)} have {x_NCHW.shape[1]} channels and the normalisation is for "
                f"{len(self.mean)}: give one value for each channel, or one for all"
            )
        mean, std = (x_NCHW.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (x_NCHW - mean) / std


def input_tensor(images_NHWC: Tensor, normalisation: Normalisation) -> Tensor:
    """What a classifier takes for minted or real images.

    Args:
        images_NHWC: (B, H, W, C) uint8, on any device.
        normalisation: of the classifier.

    Returns:
        (B, C, H, W) float32 on the same device, in channels-last memory (which no copy was needed for).
    """
    return normalisation.apply(images_NHWC.permute(0, 3, 1, 2).float().div(255))


class OnGenerated(nn.Module):
    """A classifier that takes a generator's images, float in [-1, 1]: how strategies see one."""

    def __init__(self, classifier: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.classifier = classifier
        self.normalisation = normalisation

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(B, C, H, W) float in [-1, 1] to logits (B, K)."""
        logits: Tensor = self.classifier(self.normalisation.apply((x_NCHW + 1) / 2))
        return logits
