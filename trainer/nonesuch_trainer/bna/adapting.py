"""Batch norm adaptation as a run's last step: its classifier once more, with the statistics of real images."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nonesuch.classifiers.spec import Normalisation
from nonesuch.ledger import Ledger, Use
from nonesuch.realdata.fingerprint import pixels_digest
from nonesuch.realdata.unlabelled import read_images
from nonesuch_trainer.bna.adaptation import adapt, batch_norms
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.learning.judging import Evaluation, Judge
from nonesuch_trainer.settings.adapting import Adapt


@dataclass(frozen=True, eq=False)
class Adapted:
    """A run's classifier after adaptation. The run's own is as it was."""

    model: nn.Module
    evaluation: Evaluation
    """How the adapted classifier did on the images that judge the run."""
    ledger: Ledger
    """The run's ledger, and in it the images that the classifier was adapted to."""


class Adapter:
    """Adapts a run's classifier at the end; reads the images at the start, so that what is missing is found before
    anything is trained.

    Raises `InvalidValue` for a classifier without batch norm, and what `read_images` raises.
    """

    def __init__(
        self, settings: Adapt, model: nn.Module, normalisation: Normalisation, facts: Facts, folder: Path | None = None
    ) -> None:
        """`folder` has Fashion-MNIST's files; None is where they are found."""
        batch_norms(model)
        self._settings, self._normalisation = settings, normalisation
        self._real = read_images(
            settings.to, facts.image_shape, limit=settings.images, seed=settings.seed, folder=folder
        )

    def run(
        self, model: nn.Module, judge: Judge, ledger: Ledger, between: Callable[[], None] = lambda: None
    ) -> Adapted:
        """Adapt a copy of a model and judge it. `between` is called after every batch; what it raises ends it."""
        model = copy.deepcopy(model)
        adapt(model, self._real.images, self._normalisation, self._settings, between=between)
        use = Use(
            by="batch norm adaptation",
            information="unlabelled",
            what=str(self._real),
            data=pixels_digest(self._real.images),
            direct=True,
        )
        return Adapted(model.eval(), judge.evaluate(model, self._normalisation, between), ledger.plus(use))
