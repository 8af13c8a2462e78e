"""What generated images are compared with: real ones. Measured once, for any number of generators of the same images.

Legend: N images to learn from, M images that are measured.
"""

import threading
from dataclasses import dataclass
from functools import cached_property

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
from nonesuch_trainer.metrics.measures import Measures, measure
from nonesuch_trainer.metrics.plan import EvaluationPlan
from nonesuch_trainer.sources.real import RealSource, balanced_rows


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


class TwinLearning:
    """Learn from generated images, and from as many real ones. Raises, when it is made, what `Judge.load` raises."""

    def __init__(self, plan: EvaluationPlan, facts: Facts, stop: threading.Event) -> None:
        self._plan, self._facts, self._stop = plan, facts, stop
        self.judge = Judge.load(plan.judging, facts, choose_device())
        self._real: dict[int, Evaluation] = {}

    def twins(self, images: LabelledImages, seed: int) -> Twins:
        """Learn from N generated images, and real ones with the same seed. Raises what `learn_and_judge` raises."""
        if seed not in self._real:
            real = RealSource(self._plan.twin, seed=seed, image_shape=self._facts.image_shape)
            self._real[seed] = self.learn(real.images, seed)
        return Twins(seed, self.learn(images, seed), self._real[seed])

    def learn(self, images: LabelledImages, seed: int) -> Evaluation:
        """Learn from any N images, and judge what was learned."""
        how, classes = self._plan.learning(seed), len(self._facts.class_names)
        return learn_and_judge(images, how, self.judge, classes=classes, stop=self._stop)


class Yardstick:
    """Measure images against the judging ones.

    Raises, when it is made, what `read_labelled` raises, and `InvalidValue` for a feature network of other images.
    """

    def __init__(self, plan: EvaluationPlan, facts: Facts) -> None:
        self._plan, self._facts = plan, facts
        self._network = ClassifierFeatures.load(plan.features)
        self._network.check(facts.image_shape, facts.class_names, "the generator")
        self.real = self._read(plan.split)
        """The real images that judge."""
        self._other = self._read("train")
        self._unseen = self._network.unseen(self._other)
        self._reference = self._network(self.real.images)
        self.measured = min(plan.size, len(self.real), len(self._unseen))
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
        return measure(images, labels, self._reference, self._network)
