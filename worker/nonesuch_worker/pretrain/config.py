"""What a pretraining run is: one frozen model. Its defaults are the recipe of the weights that ship."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nonesuch.config import validated
from nonesuch.host.toml import read_toml
from nonesuch.model import Frozen, Name
from nonesuch_worker.networks.compact import CompactConfig, Init
from nonesuch_worker.pretrain.discriminator import DiscriminatorConfig

FASHION_MNIST = "fashion-mnist"
Augmentation = Literal["color", "translation", "cutout"]

_CHANGEABLE = {
    "name", "data_license", "iterations", "device", "compile",
    "checkpoint_every", "grid_every", "export_every", "log_every",
}  # fmt: skip
"""The fields that may have another value when a run goes on. `iterations` has a rule of its own: `same_rates`."""


class PretrainConfig(Frozen):
    """A pretraining run: data, networks, optimisation and how often it reports."""

    name: Name | None = Field(default=None, description="the generator's id; by default made of data and seed")
    data: str = Field(default=FASHION_MNIST, min_length=1, description="see `nonesuch.realdata.labelled.read_labelled`")
    data_license: str | None = Field(default=None, description="of the images, for the card")
    validation_per_class: int | None = Field(
        default=None, ge=1, description="images of each class that are kept from training; by default the source's"
    )
    conditional: bool = Field(default=True, description="false: all images are of one class, their labels are not used")
    flip: bool = Field(default=False, description="mirror half of the real images; off: a boot's toe points one way")
    seed: int = Field(default=0, ge=0)

    generator: CompactConfig = Field(default=CompactConfig(), validate_default=True)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    init: Init = Field(default="orthogonal", description="of both networks' weights: orthogonal, or N(0, 0.02²)")

    iterations: int = Field(default=10_000, ge=1, description="steps of the generator")
    batch: int = Field(default=64, ge=2, description="over all processes")
    n_dis: int = Field(default=1, ge=1, description="steps of the discriminator for each of the generator's")
    generator_lr: float = Field(default=2e-4, gt=0)
    discriminator_lr: float = Field(default=4e-4, gt=0)
    betas: tuple[float, float] = (0.0, 0.99)
    decay_iterations: int = Field(default=3_000, ge=0, description="last iterations, over which both rates fall to 0")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the moving average of the generator's weights")
    standing_batches: int = Field(default=32, ge=1, description="forward passes that BN statistics are averaged over")
    standing_batch: int = Field(default=128, ge=2, description="images in each of those passes")
    diffaugment: tuple[Augmentation, ...] = Field(
        default=(), description="of all that the discriminator sees, real and generated (Zhao et al. 2020)"
    )
    consistency: float = Field(
        default=0.0, ge=0, description="λ of consistency regularisation on real images (Zhang et al. 2020); they use 10"
    )

    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16",
        description="of the convolutions; weights, optimisers, statistics and power iterations are always float32",
    )
    channels_last: bool = True
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU where torch sees one")
    compile: bool = Field(default=False, description="torch.compile both networks")

    checkpoint_every: int = Field(default=250, ge=1)
    grid_every: int = Field(default=500, ge=1)
    export_every: int = Field(default=1_000, ge=1)
    log_every: int = Field(default=50, ge=1)

    @field_validator("generator")
    @classmethod
    def _one_class(cls, generator: CompactConfig, info: ValidationInfo) -> CompactConfig:
        if info.data.get("conditional", True) or "classes" in generator.model_fields_set:
            return generator
        return generator.model_copy(update={"classes": 1})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        generator, discriminator = self.generator, self.discriminator
        halvings = len(discriminator.widths) - 1
        if generator.image_size < 2**halvings:
            raise ValueError(
                f"discriminator.widths {discriminator.widths} halve an image {halvings} times, but "
                f"generator.image_size is {generator.image_size}: use fewer widths"
            )
        resolutions = discriminator.resolutions(generator.image_size)
        if discriminator.attention is not None and discriminator.attention not in resolutions:
            raise ValueError(
                f"discriminator.attention {discriminator.attention} is no resolution of this discriminator: use one "
                f"of {', '.join(map(str, resolutions))}"
            )
        if not self.conditional and generator.classes != 1:
            raise ValueError(
                f"conditional is false, but generator.classes is {generator.classes}: leave it out, or make it 1"
            )
        if "color" in self.diffaugment and generator.channels == 1:
            raise ValueError(
                "diffaugment names 'color', but generator.channels is 1: grey images have none; use "
                "'translation' and 'cutout'"
            )
        return self

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file; whatever it leaves out is the shipped recipe's.

        Raises:
            InvalidValue: the file is missing, is not TOML, or holds a value or a name that this model refuses.
        """
        return validated(cls, read_toml(path, "pretraining config"), str(path))

    @property
    def generator_id(self) -> str:
        """The name of what comes out: the one given, or else one for this data, shape and seed."""
        if self.name is not None:
            return self.name
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(self.data).stem).strip("-_.")[:24] or "generator"
        concat = "concat" in (self.generator.block, self.discriminator.block)
        parts = (stem, "concat" * concat, "unconditional" * (not self.conditional), f"s{self.seed}" * (self.seed > 0))
        return "-".join(part for part in parts if part)

    @property
    def decay_start(self) -> int:
        """The iteration, counted from 0, up to which both learning rates are constant."""
        return max(0, self.iterations - self.decay_iterations)

    def learning_rates(self, iteration: int) -> tuple[float, float]:
        """(generator's, discriminator's) rate for the iteration counted from 0: constant, then linearly to zero."""
        left = self.iterations - iteration
        factor = min(1.0, left / self.decay_iterations) if self.decay_iterations else 1.0
        return self.generator_lr * factor, self.discriminator_lr * factor

    def differing(self, other: "PretrainConfig") -> list[str]:
        """The fields in which another config differs so that its run is another one; empty when it is the same."""
        mine, theirs = self.model_dump(exclude=_CHANGEABLE), other.model_dump(exclude=_CHANGEABLE)
        return [name for name in mine if mine[name] != theirs[name]]

    def same_rates(self, other: "PretrainConfig", done: int) -> bool:
        """Whether the first `done` iterations of both have the same learning rates, given that nothing else differs."""
        return self.iterations == other.iterations or done <= min(self.decay_start, other.decay_start)
