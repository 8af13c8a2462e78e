"""What `nonesuch evaluate` does: order images, measure them beside real ones, and learn from both.

    mint N ─► measure M of them ─► measure M real ones (the floor) ─► learn from N, and from N real ones, per seed

Legend: N images to learn from, M images that are measured, K classes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nonesuch.labelled import read_labelled
from nonesuch.link import Link
from nonesuch.model import Frozen, Name
from nonesuch.orders import Seed
from nonesuch.realdata import Split
from nonesuch_trainer.config import Augment, Evaluate, Minted, Real, Recipe, TrainConfig
from nonesuch_trainer.evaluate import Evaluation, Judge
from nonesuch_trainer.learning import choose_device
from nonesuch_trainer.metrics.features import ClassifierFeatures
from nonesuch_trainer.metrics.learnability import learn_and_judge
from nonesuch_trainer.metrics.measures import Measures, measure
from nonesuch_trainer.minting import MintedSource
from nonesuch_trainer.real import RealSource, balanced_rows
from nonesuch_trainer.resident import LabelledImages
from nonesuch_trainer.seeds import numpy_rng
from nonesuch_trainer.source import Facts

Say = Callable[[str], None]


class EvaluationPlan(Frozen):
    """How a generator is evaluated."""

    generators: tuple[Name, ...] = Field(min_length=1)
    """Of a service that runs. Several are mixed in equal shares."""
    sigma: float = Field(default=1.0, gt=0)
    """Of the latents z ~ N(0, σ²I)."""
    truncation: float | None = Field(default=None, gt=0)
    """Of the latents, in the place of σ."""
    size: int = Field(default=10_000, ge=200)
    """N, images to learn from."""
    epochs: int = Field(default=20, ge=0)
    """0 leaves the learning out, and with it what ranks generators."""
    seeds: int = Field(default=1, ge=1)
    """Each draws images, weights and order anew."""
    seed: Seed = 0
    """The first of them."""
    split: Split = "validation"
    """Of the real images, to compare with and to be judged on. `test` is for what is settled."""
    features: Path | None = None
    """A classifier file to see through; None is the one that ships."""
    real: str = Field(default="fashion-mnist", min_length=1)
    """Real images with splits (`nonesuch.labelled.read_labelled`)."""
    data: Path | None = None
    """Folder of Fashion-MNIST's files; None is where they are found."""

    @property
    def recipe(self) -> Recipe:
        params = {"sigma": self.sigma} if self.truncation is None else {"truncation": self.truncation}
        return Recipe(params=dict(params))

    def config(self, seed: int) -> TrainConfig:
        """Of the run that learns from minted images. Its twin differs in its images only."""
        return TrainConfig(
            run=f"evaluate-{seed}",
            seed=seed,
            epochs=max(1, self.epochs),
            precision="bfloat16",
            dataset=Minted(
                generators=self.generators, size=self.size, replacement=0.0, first=self.recipe, fresh=(self.recipe,)
            ),
            augment=Augment(shift=2, hflip=True),
            evaluate=Evaluate(data=self.real, folder=self.data, split=self.split),
        )

    def twin(self, seed: int) -> TrainConfig:
        """Of the run that learns from as many real images."""
        real = Real(kind="real", data=self.real, folder=self.data, size=self.size)
        return self.config(seed).model_copy(update={"dataset": real})


@dataclass(frozen=True, eq=False)
class Twins:
    """What was learned from generated and from real images, with one seed."""

    seed: int
    minted: Evaluation
    real: Evaluation

    @property
    def gap(self) -> float:
        """Accuracy that real images would have given on top, in [-1, 1]."""
        return self.real.accuracy - self.minted.accuracy


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that was found."""

    plan: EvaluationPlan
    facts: Facts
    yardstick: "Yardstick"
    generated: Measures
    floor: Measures
    twins: tuple[Twins, ...]
    images: LabelledImages
    """The first seed's."""

    @property
    def judged_on(self) -> str:
        """The real images, and how many."""
        return self.yardstick.judge.name


def mint(config: TrainConfig, link: Link, stop: threading.Event, say: Say) -> tuple[LabelledImages, Facts]:
    """The fixed dataset that a run would begin with. Blocks; raises what `MintedSource` raises."""
    with MintedSource(config, link, stop=stop, say=say) as source:
        images, _ = source.first_images(lambda done, total: None)
        return images, source.facts


class Yardstick:
    """What generated images are compared with: real ones. Measured once, for any number of generators.

    Raises what `read_labelled` and `Judge.load` raise, and `InvalidValue` for a feature network of other images.
    """

    def __init__(self, plan: EvaluationPlan, facts: Facts, stop: threading.Event) -> None:
        config = plan.config(plan.seed)
        self._plan, self._classes, self._stop = plan, len(facts.class_names), stop
        self._shape = facts.image_shape
        self._network = ClassifierFeatures.load(plan.features)
        self._network.check(facts.image_shape, facts.class_names, "the generator")
        self.judge = Judge.load(config.evaluate, facts, choose_device(config))
        self.real = read_labelled(plan.real, plan.split, image_shape=facts.image_shape, folder=plan.data)
        self._other = read_labelled(plan.real, "train", image_shape=facts.image_shape, folder=plan.data)
        self._unseen = self._network.unseen(self._other)
        self.measured = min(plan.size, len(self.real), len(self._unseen))
        """M, images that are measured."""
        self._reference = self._network(self.real.images)
        self._twins: dict[int, Evaluation] = {}

    @cached_property
    def floor(self) -> Measures:
        """Of M real images that neither the feature network nor the judge has seen."""
        labels = self._other.labels[self._unseen]
        rows = self._unseen[balanced_rows(labels, self.measured, numpy_rng(self._plan.seed, "subset", 1))]
        return self._measure(self._other.images[rows], self._other.labels[rows])

    def measure(self, images: LabelledImages) -> Measures:
        """Of M generated images."""
        rows = balanced_rows(images.labels, self.measured, numpy_rng(self._plan.seed, "subset"))
        return self._measure(images.images[rows], images.labels[rows])

    def learn(self, images: LabelledImages, seed: int) -> Evaluation:
        """What is learned from N generated images."""
        return learn_and_judge(images, self._plan.config(seed), self.judge, classes=self._classes, stop=self._stop)

    def twin(self, seed: int) -> Evaluation:
        """What is learned from N real images with a seed."""
        if seed not in self._twins:
            self._twins[seed] = self.learn(RealSource(self._plan.twin(seed), self._shape).images, seed)
        return self._twins[seed]

    def _measure(self, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> Measures:
        return measure(images, labels, self._reference, self._network)


def evaluate(
    plan: EvaluationPlan,
    link: Link,
    *,
    yardstick: Yardstick | None = None,
    stop: threading.Event | None = None,
    say: Say = lambda line: None,
) -> Findings:
    """Evaluate what a running service mints. Blocks for minutes.

    Args:
        link: to its Redis; the plan's generators are hosted there.
        yardstick: of an earlier evaluation by the same plan with other generators of the same images.
        stop: ends it when it is set.
        say: is told what is being done.

    Raises:
        Stopped: asked to stop.
        DataNotFound: the real images are not there.
        InvalidValue: generator, feature network and real images do not fit together, or are too few.
        GeneratorNotFound, NoWorkers, InvalidOrder, OrderFailed, TakeTimeout: the images cannot be had.
    """
    stop = stop or threading.Event()
    say(f"minting {plan.size:,} images")
    first, facts = mint(plan.config(plan.seed), link, stop, say)
    yardstick = yardstick or Yardstick(plan, facts, stop)
    say(f"measuring {yardstick.measured:,} images against {yardstick.judge.name}")
    generated, floor = yardstick.measure(first), yardstick.floor

    twins = []
    for seed in range(plan.seed, plan.seed + plan.seeds) if plan.epochs else ():
        images = first if seed == plan.seed else mint(plan.config(seed), link, stop, say)[0]
        say(f"learning from {plan.size:,} generated and as many real images, seed {seed}")
        found = Twins(seed, yardstick.learn(images, seed), yardstick.twin(seed))
        twins.append(found)
        say(f"accuracy {100 * found.minted.accuracy:.2f} %, its twin's {100 * found.real.accuracy:.2f} %")
    return Findings(plan, facts, yardstick, generated, floor, tuple(twins), first)
