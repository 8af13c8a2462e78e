"""What generated images are compared with: real ones. Measured once, for any number of generators of the same images.

Legend: N images to learn from, M images that are measured.
"""

import threading
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonesuch.realdata.fashion_mnist import RealImages, Split
from nonesuch.realdata.labelled import read_labelled
from nonesuch.seeds import numpy_rng
from nonesuch.smoothed.resident import LabelledImages
from nonesuch_trainer.learning.epoch import choose_device
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.learning.judging import Evaluation, Judge
from nonesuch_trainer.metrics.features import ClassifierFeatures
from nonesuch_trainer.metrics.learnability import learn_and_judge
from nonesuch_trainer.metrics.measures import Measures, View, measure
from nonesuch_trainer.metrics.plan import EvaluationPlan
from nonesuch_trainer.sources.real import RealSource, balanced_rows, most_balanced


@dataclass(frozen=True, eq=False)
class Twins:
    """What was learned from generated and from real images, with one seed."""

    seed: int
    minted: Evaluation
    real: Evaluation
    real_images: int
    """How many different ones; fewer than the minted where there are no more, and then learned from the more often."""

    @property
    def gap(self) -> float:
        """Accuracy that real images would have given on top, in [-1, 1]."""
        return self.real.accuracy - self.minted.accuracy


class TwinLearning:
    """Learn from generated images, and in as many steps from real ones. Raises, when it is made, what `Judge.load`
    raises."""

    def __init__(self, plan: EvaluationPlan, facts: Facts, stop: threading.Event) -> None:
        self._plan, self._facts, self._stop = plan, facts, stop
        self.judge = Judge.load(plan.judging, facts, choose_device())
        self._real: dict[int, tuple[Evaluation, int]] = {}

    def twins(self, images: LabelledImages, seed: int) -> Twins:
        """Learn from N generated images, and real ones with the same seed. Raises what `learn_and_judge` raises.

        Fewer than N real images are repeated until there are N, so that both learn in as many steps.
        """
        if seed not in self._real:
            real = RealSource(self._plan.twin, seed=seed, image_shape=self._facts.image_shape, at_most=True).images
            self._real[seed] = self.learn(_repeated(real, self._plan.size), seed), len(real)
        return Twins(seed, self.learn(images, seed), *self._real[seed])

    def learn(self, images: LabelledImages, seed: int) -> Evaluation:
        """Learn from any N images, and judge what was learned."""
        how, classes = self._plan.learning(seed), len(self._facts.class_names)
        return learn_and_judge(images, how, self.judge, classes=classes, stop=self._stop)


class Yardstick:
    """Measure images against the judging ones.

    Raises, when it is made, what `read_labelled` raises, and `InvalidValue` for a feature network of other images that
    was asked for by name; without the shipped one, there are only the measures that take none.
    """

    def __init__(self, plan: EvaluationPlan, facts: Facts) -> None:
        self._plan, self._facts = plan, facts
        network = ClassifierFeatures.load(plan.features)
        known = network.knows(facts.image_shape, facts.class_names)
        if plan.features is not None:
            network.check(facts.image_shape, facts.class_names, "the generator")
        self.real = self._read(plan.split)
        """The real images that judge."""
        self._other = self._read("train")
        self._unseen = network.unseen(self._other) if known else np.arange(len(self._other))
        self._view = View(network, network(self.real.images)) if known else None
        self.measured = min(plan.size, len(self.real), most_balanced(self._other.labels[self._unseen]))
        """M, the number of images that are measured."""

    @cached_property
    def floor(self) -> Measures:
        """The measures of M real images that neither the feature network nor the judge has seen."""
        labels = self._other.labels[self._unseen]
        rows = self._unseen[balanced_rows(labels, self.measured, numpy_rng(self._plan.seed, "subset", 1))]
        return self._measure(self._other.images[rows], self._other.labels[rows])

    def measure(self, images: LabelledImages) -> Measures:
        """The measures of M of the generated images."""
        rows = balanced_rows(images.labels, self.measured, numpy_rng(self._plan.seed, "subset"))
        return self._measure(images.images[rows], images.labels[rows])

    def _read(self, split: Split) -> RealImages:
        source = self._plan.source
        return read_labelled(source.pop("data"), split, image_shape=self._facts.image_shape, **source)

    def _measure(self, images: NDArray[np.uint8], labels: NDArray[np.int32]) -> Measures:
        return measure(images, labels, self._view, class_names=self._facts.class_names)


def _repeated(images: LabelledImages, size: int) -> LabelledImages:
    """The images over and over, in their order, until there are `size`."""
    if len(images) >= size:
        return images
    rows = np.resize(np.arange(len(images)), size)
    columns: dict[str, Any] = {f.name: getattr(images, f.name) for f in fields(images)}
    repeated: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns.items()}
    return LabelledImages(**repeated)
