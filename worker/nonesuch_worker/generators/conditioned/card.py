"""The card of a conditioned generator: what it is made of, how, and how well that went."""

from typing import Literal, Self

import torch
from pydantic import ConfigDict, Field, model_validator

from nonesuch.labels import ClassNames
from nonesuch.ledger import RealInformation
from nonesuch.model import Frozen, Name
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.conditioned.network import InputNetwork

_SHA256 = r"^[0-9a-f]{64}$"


class CardBase(Frozen):
    """The unconditional generator on the card of a conditioned one."""

    family: Name
    argument: str | None
    """What the base's family loads it by; None: the folder `base/` beside the card."""
    id: Name
    sha256: str = Field(pattern=_SHA256)
    """The base's `GeneratorInfo.sha256`."""


class CardClassifier(Frozen):
    """The classifier on the card of a conditioned generator."""

    channel: Name
    version: int
    sha256: str = Field(pattern=_SHA256)


class Card(Frozen):
    """`card.json`: what `generators.card` asks of every family, and what this one adds. Other fields are for people."""

    model_config = ConfigDict(extra="ignore")

    format: Literal["nonesuch-conditioned-1"] = "nonesuch-conditioned-1"
    family: Literal["conditioned"] = "conditioned"
    name: Name
    """The generator's id."""
    description: str
    license: str
    """The licence of the base."""
    class_names: ClassNames = Field(min_length=2)
    """The names of the classes, which are the classifier's."""
    image_shape: tuple[int, int, int]
    """The shape (H, W, C) of the images; like `z_dim`, the length of the latents, it is the base's."""
    z_dim: int = Field(ge=1)
    real_information: RealInformation
    """The most that base or classifier learned from: the labels are the classifier's."""
    base: CardBase
    classifier: CardClassifier
    recipe: ConditionConfig
    metrics: dict[str, float]
    sha256: str = Field(pattern=_SHA256)
    """The sha256 of `input.safetensors`."""

    @model_validator(mode="after")
    def _base_is_plain(self) -> Self:
        if self.base.family == self.family:
            raise ValueError("the base of a conditioned generator cannot be conditioned itself")
        return self

    def network(self) -> InputNetwork:
        """An input network of this shape, its weights still to be loaded."""
        with torch.random.fork_rng(devices=()):
            return InputNetwork(classes=len(self.class_names), z_dim=self.z_dim, hidden=self.recipe.hidden)
