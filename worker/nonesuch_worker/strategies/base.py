"""What a strategy is: a plug-in that turns a few indices of an order into labelled images.

It gets everything in a `MintContext`, returns a `Minted`, and keeps nothing in between, so that the images of a ticket
are a function of the order, the slice and (for strategies that use one) the snapshot.

Shapes: B rows asked for, N ≤ B rows made, Z = z_dim, K classes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from torch import Tensor, nn

from nonesuch.model import Frozen
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.latents import LATENT, latents

_ONE_SCALE: JsonDict = {
    "if": {"required": ["truncation"], "properties": {"truncation": {"type": "number"}}},
    "then": {"properties": {"sigma": {"const": 1.0, "description": "truncation excludes sigma: give one of them"}}},
}


class StrategyParams(Frozen):
    """What every strategy can be told."""

    # The gateway refuses orders by the JSON Schema and shows its descriptions: they are the docstrings below.
    model_config = ConfigDict(json_schema_extra=_ONE_SCALE, use_attribute_docstrings=True)

    sigma: float = Field(default=1.0, gt=0, le=4)
    """σ of z ~ N(0, σ²I). A generator may allow less (`GeneratorInfo.max_sigma`)."""
    truncation: float | None = Field(default=None, gt=0, le=1)
    """t of z = t · truncnorm(-2, 2), in place of σ."""

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.truncation is not None and self.sigma != 1.0:
            raise ValueError(f"truncation {self.truncation} excludes sigma {self.sigma}: give one of them")
        return self


P = TypeVar("P", bound=StrategyParams)


@dataclass(frozen=True)
class MintContext(Generic[P]):
    """One call of a strategy: which rows, and what it may use."""

    seed: int
    """The order's."""
    indices: NDArray[np.int64]
    """(B,)"""
    labels: NDArray[np.int32]
    """(B,)"""
    generators: tuple[Generator, ...]
    """In the order's order; all on `device`."""
    params: P
    classifier: nn.Module | None
    """The snapshot's: images (B, C, H, W) float in [-1, 1] to logits (B, K); in eval mode, its weights frozen. None
    unless the order names a snapshot."""
    snapshot_version: int | None
    device: torch.device

    def latents(self, stream: int = LATENT, *, generator: int = 0) -> Tensor:
        """(B, Z) float32 on the device: the rows' latents for one of the generators, by the order's σ or truncation."""
        params, z_dim = self.params, self.generators[generator].info.z_dim
        z = latents(self.seed, self.indices, z_dim, params.sigma, params.truncation, stream)
        return torch.from_numpy(z).to(self.device)

    def targets(self) -> Tensor:
        """(B,) int64 on the device: the labels as generators and losses want them."""
        return torch.from_numpy(self.labels.astype(np.int64)).to(self.device)


@dataclass(frozen=True)
class Minted:
    """What a strategy made: the context's rows in their order, without those that it could not fill."""

    images: NDArray[np.uint8]
    """(N, H, W, C)"""
    labels: NDArray[np.int32]
    """(N,)"""
    indices: NDArray[np.int64]
    """(N,)"""
    generator: NDArray[np.int32]
    """(N,) positions in the order's list of generators."""
    score: NDArray[np.float32] | None = None
    """(N,) what the snapshot said of them, where it was asked."""
    z: NDArray[np.float16] | None = None
    """(N, Z) where the latent was changed, so that the row can be made again without the snapshot."""


class Strategy(Protocol):
    """A way to choose latents. The entry point of the group `nonesuch.strategies` names a class without arguments."""

    name: ClassVar[str]
    Params: ClassVar[type[StrategyParams]]
    needs_snapshot: ClassVar[bool]
    """It asks a classifier: an order without a snapshot is refused."""
    needs_gradient: ClassVar[bool]
    """It differentiates through the generator."""

    def mint(self, ctx: MintContext[Any]) -> Minted:
        """Make the rows of a context whose `params` are a `Params`, and whose classifier is there if it is needed.

        Gradients are off when it is called; a strategy that needs them turns them on.
        """
