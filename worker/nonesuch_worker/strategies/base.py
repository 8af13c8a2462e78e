"""What a strategy is: a plug-in that turns a few indices of an order into labelled images.

It gets everything in a `MintContext`, returns `MintedRows`, and keeps nothing in between, so that the images of a
ticket are a function of the order, the slice and (for strategies that use one) the snapshot.

Shapes: B rows asked for, n of them, N ≤ B rows made, Z = z_dim, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from torch import Tensor, nn

from nonesuch.model import Frozen
from nonesuch.tally import NOTHING, Tally
from nonesuch_worker.engine.copy_out import HostCopy, copy_in
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.latents import ATTEMPTS, LATENT, MIXTURE, latents, uniforms

ONE_SCALE: JsonDict = {
    "if": {"required": ["truncation"], "properties": {"truncation": {"type": "number"}}},
    "then": {"properties": {"sigma": {"const": 1.0, "description": "truncation excludes sigma: give one of them"}}},
}


class StrategyParams(Frozen):
    """What every strategy can be told."""

    # The gateway refuses orders by the JSON Schema and shows its descriptions: they are the docstrings below.
    # A class with further rules across fields gives {"allOf": [ONE_SCALE, ...]}: its extra takes the place of this one.
    model_config = ConfigDict(json_schema_extra=ONE_SCALE, use_attribute_docstrings=True)

    sigma: float = Field(default=1.0, gt=0, le=4)
    """σ of z ~ N(0, σ²I). A generator may allow less (`GeneratorInfo.max_sigma`)."""
    truncation: float | None = Field(default=None, gt=0, le=1)
    """t of z = t · truncnorm(-2, 2), in place of σ."""
    soft_labels: bool = Field(default=False, json_schema_extra={"needs": "teacher"})
    """Let every row carry the teacher's probabilities of its image."""

    @property
    def asks_teacher(self) -> bool:
        """Whether something is asked for that needs a teacher: a parameter whose schema says so is true."""
        fields = type(self).model_fields.items()
        needing = [n for n, f in fields if isinstance(f.json_schema_extra, dict) and "needs" in f.json_schema_extra]
        return any(getattr(self, name) for name in needing)

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.truncation is not None and self.sigma != 1.0:
            raise ValueError(f"truncation {self.truncation} excludes sigma {self.sigma}: give one of them")
        return self


class MixingParams(StrategyParams):
    """What a strategy can be told that may be given several generators."""

    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    """How often each generator of the order is chosen, relative to the others; equally often if left out."""


P = TypeVar("P", bound=StrategyParams)


@dataclass(frozen=True)
class Draw:
    """The rows of a context that one generator makes, with a latent for each."""

    generator: int
    """The position of the generator in the order's list."""
    rows: NDArray[np.int64]
    """The places of the rows in the context, (n,)."""
    z: Tensor
    """The latents, (n, Z) float32 on the device."""
    labels: Tensor
    """The labels, (n,) int64 on the device."""


@dataclass(frozen=True)
class MintContext(Generic[P]):
    """One call of a strategy: which rows, and what it may use."""

    seed: int
    """The seed of the order."""
    indices: NDArray[np.int64]
    """The indices to make, (B,)."""
    labels: NDArray[np.int32]
    """The label of each index, (B,)."""
    generators: tuple[Generator, ...]
    """The order's generators, as it lists them; all on `device`."""
    params: P
    classifier: nn.Module | None
    """The snapshot's classifier: images (B, C, H, W) float in [-1, 1] to logits (B, K); in eval mode, its weights
    frozen. None unless the order names a snapshot."""
    device: torch.device
    teacher: nn.Module | None = None
    """The teacher, a network like `classifier`. None unless the order names a teacher."""

    def draws(self, attempt: int = 0, rows: NDArray[np.int64] | None = None) -> Iterator[Draw]:
        """A latent for each row, grouped by the generator that makes it.

        Which generator that is depends on order seed and index alone (Pham et al. 2019, section III-C), and on the
        weights of `MixingParams`; the latent also on the attempt.

        Args:
            attempt: 0 is an index's first latent; every other number gives another one.
            rows: (n,) places in the context; None takes all.
        """
        if rows is None:
            rows = np.arange(len(self.indices))
        stream = LATENT if attempt == 0 else ATTEMPTS + attempt
        chosen = self._generators_of(self.indices[rows])  # (n,)
        for position in np.unique(chosen):
            mine = rows[chosen == position]
            z_dim = self.generators[position].info.z_dim
            z = latents(self.seed, self.indices[mine], z_dim, self.params.sigma, self.params.truncation, stream)
            labels = self.labels[mine].astype(np.int64)
            yield Draw(int(position), mine, copy_in(z, self.device), copy_in(labels, self.device))

    def render(self, draw: Draw, z: Tensor | None = None) -> Tensor:
        """(n, C, H, W) float in [-1, 1]: the images of a draw, or those of other latents (n, Z) in its place."""
        return self.generators[draw.generator](draw.z if z is None else z, draw.labels, self.params.truncation)

    def _generators_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The position of each index's generator in the order's list, (n,)."""
        count = len(self.generators)
        given = self.params.weights if isinstance(self.params, MixingParams) else None
        weights = np.asarray(given or (1.0,) * count, dtype=np.float64)
        bounds = np.cumsum(weights / weights.sum())[:-1]  # (count - 1,)
        u = uniforms(self.seed, indices, 1, MIXTURE)[:, 0]
        return np.searchsorted(bounds, u, side="right")


@dataclass(frozen=True)
class MintedRows:
    """What a strategy made: the context's rows in their order, without those that it could not fill."""

    images: NDArray[np.uint8] | HostCopy
    """The images, (N, H, W, C). They are on their way to the host where the strategy need not see them: the next rows
    are begun meanwhile."""
    labels: NDArray[np.int32]
    """The labels, (N,)."""
    indices: NDArray[np.int64]
    """The indices, (N,)."""
    generator: NDArray[np.int32]
    """The position of each row's generator in the order's list, (N,)."""
    attempt: NDArray[np.int32] | None = None
    """The attempt whose latent was taken for each index, (N,), where there was a choice."""
    score: NDArray[np.float32] | None = None
    """What a classifier said of the images, (N,), where it was asked; the strategy says what it means."""
    score_before: NDArray[np.float32] | None = None
    """The score of the images that were started from, (N,)."""
    flips: NDArray[np.int16] | None = None
    """How often the predicted class changed on the way, (N,)."""
    z: Sequence[NDArray[np.float16]] | None = None
    """N latents, each (Z,) of its generator, where they were changed: the images are of these very numbers, so that a
    row can be made again without the snapshot."""
    tally: Tally = NOTHING
    """What became of the latents that were tried, where some were rejected."""

    def images_on_host(self) -> NDArray[np.uint8]:
        """The images, (N, H, W, C). Blocks until they are there."""
        return self.images.numpy() if isinstance(self.images, HostCopy) else self.images


class Strategy(Protocol):
    """A way to choose latents. The entry point of the group `nonesuch.strategies` names a class without arguments."""

    name: ClassVar[str]
    Params: ClassVar[type[StrategyParams]]
    needs_snapshot: ClassVar[bool]
    """Whether it asks a classifier: an order without a snapshot is refused then."""
    needs_teacher: ClassVar[bool]
    """Whether it asks a teacher: an order without one is refused then."""
    needs_gradient: ClassVar[bool]
    """Whether it differentiates through the generator."""
    mixes: ClassVar[bool]
    """Whether it takes several generators."""
    rejects: ClassVar[bool]
    """Whether it may leave rows out that it could not fill."""

    def mint(self, ctx: MintContext[Any]) -> MintedRows:
        """Make the rows of a context whose `params` are a `Params`, and whose classifiers are there if they are needed.

        Gradients are off when it is called; a strategy that needs them turns them on.
        """
