"""What is evaluated, and how: one frozen model.

Legend: N images to learn from, M images that are measured, K classes.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from nonesuch.model import Frozen, Name
from nonesuch.orders import Seed
from nonesuch.realdata.fashion_mnist import Split
from nonesuch_trainer.settings.datasets import Minted, Portion, Real
from nonesuch_trainer.settings.learning import Augment, Evaluate, Learning


class EvaluationPlan(Frozen):
    """How a generator is evaluated."""

    generators: tuple[Name, ...] = Field(min_length=1)
    """The generators, of a service that runs. Several are mixed in equal shares."""
    sigma: float = Field(default=1.0, gt=0)
    """σ of the latents z ~ N(0, σ²I)."""
    truncation: float | None = Field(default=None, gt=0)
    """The truncation of the latents, in the place of σ."""
    size: int = Field(default=10_000, ge=200)
    """N, the number of images to learn from."""
    epochs: int = Field(default=20, ge=0)
    """How many epochs to learn for; 0 leaves the learning out, and with it what ranks generators."""
    seeds: int = Field(default=1, ge=1)
    """How many seeds there are; each draws images, weights and order anew."""
    seed: Seed = 0
    """The first of the seeds."""
    split: Split = "validation"
    """The split of the real images to compare with and to be judged on. `test` is for what is settled."""
    features: Path | None = None
    """The classifier file of the feature network; None is the one that ships."""
    real: str = Field(default="fashion-mnist", min_length=1)
    """The real images, which have splits (`nonesuch.realdata.labelled.read_labelled`)."""
    validation_per_class: int | None = Field(default=None, ge=1)
    """How many images of each class are cut from real ones without a validation split; None is a tenth of the smallest
    class."""
    data: Path | None = None
    """The folder of Fashion-MNIST's files; None is where they are found."""

    def learning(self, seed: int) -> Learning:
        """How a classifier learns from minted images, and its twin from real ones."""
        return Learning(
            seed=seed, epochs=max(1, self.epochs), precision="bfloat16", augment=Augment(shift=2, hflip=True)
        )

    @property
    def judging(self) -> Evaluate:
        """The real images that judge a classifier and its twin."""
        return Evaluate(**self.source, split=self.split)

    @property
    def minted(self) -> Minted:
        """The images that are minted to be learned from."""
        params = {"sigma": self.sigma} if self.truncation is None else {"truncation": self.truncation}
        drawn = Portion(params=dict(params))
        return Minted(generators=self.generators, size=self.size, replacement=0.0, first=drawn, fresh=(drawn,))

    @property
    def twin(self) -> Real:
        """The real images that the twin learns from: as many as are minted."""
        return Real(kind="real", **self.source, size=self.size)

    @property
    def source(self) -> dict[str, Any]:
        """The settings that `Evaluate`, `Real` and `read_labelled` have in common: where the real images are."""
        return {"data": self.real, "folder": self.data, "validation_per_class": self.validation_per_class}
