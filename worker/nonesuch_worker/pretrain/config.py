"""What a pretraining run is: one frozen model. Its defaults are the recipe of the weights that ship."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.compact import CompactConfig
from nonesuch_worker.pretrain.discriminator import DiscriminatorConfig

_CHANGEABLE = {"iterations", "checkpoint_every", "grid_every", "export_every", "log_every"}


class PretrainConfig(BaseModel):
    """A pretraining run: data, networks, optimisation and how often it reports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Literal["fashion-mnist"] = "fashion-mnist"
    flip: bool = Field(default=False, description="mirror half of the real images; off: a boot's toe points one way")
    seed: int = Field(default=0, ge=0)

    generator: CompactConfig = CompactConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    iterations: int = Field(default=10_000, ge=1, description="steps of the generator")
    batch: int = Field(default=64, ge=2)
    n_dis: int = Field(default=1, ge=1, description="steps of the discriminator for each of the generator's")
    generator_lr: float = Field(default=2e-4, gt=0)
    discriminator_lr: float = Field(default=4e-4, gt=0)
    betas: tuple[float, float] = (0.0, 0.99)
    decay_iterations: int = Field(default=3_000, ge=0, description="last iterations, over which both rates fall to 0")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the moving average of the generator's weights")
    standing_batches: int = Field(default=32, ge=1, description="forward passes that BN statistics are averaged over")
    standing_batch: int = Field(default=128, ge=2, description="images in each of those passes")
    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16",
        description="of the convolutions; weights, optimisers, statistics and power iterations are always float32",
    )
    channels_last: bool = True

    checkpoint_every: int = Field(default=250, ge=1)
    grid_every: int = Field(default=500, ge=1)
    export_every: int = Field(default=1_000, ge=1)
    log_every: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        halvings = len(self.discriminator.widths) - 1
        if self.generator.image_size < 2**halvings:
            raise ValueError(
                f"discriminator.widths {self.discriminator.widths} halve an image {halvings} times, but "
                f"generator.image_size is {self.generator.image_size}: use fewer widths"
            )
        return self

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file; whatever it leaves out is the shipped recipe's.

        Raises:
            InvalidValue: the file is missing, is not TOML, or holds a value or a name that this model refuses.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise InvalidValue(f"cannot read the pretraining config {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise InvalidValue(f"{path} is not TOML: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or None
            raise InvalidValue(f"{path}: {field or 'config'}: {first['msg']}", field=field) from error

    def learning_rates(self, iteration: int) -> tuple[float, float]:
        """(generator's, discriminator's) rate for the iteration counted from 0: constant, then linearly to zero."""
        left = self.iterations - iteration
        factor = min(1.0, left / self.decay_iterations) if self.decay_iterations else 1.0
        return self.generator_lr * factor, self.discriminator_lr * factor

    def resumes(self, other: "PretrainConfig") -> list[str]:
        """The fields in which a checkpoint's config differs so that it cannot be resumed; empty when it can."""
        mine, theirs = self.model_dump(exclude=_CHANGEABLE), other.model_dump(exclude=_CHANGEABLE)
        return [name for name in mine if mine[name] != theirs[name]]
