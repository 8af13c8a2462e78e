"""Batch norm adaptation as a run's last step: its classifier once more, with the statistics of real images."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nonesuch.ledger import Ledger, Use
from nonesuch.realdata.unlabelled import read_images
from nonesuch_trainer.bna.adaptation import adapt, batch_norms
from nonesuch_trainer.learning.judging import Evaluation, Judge
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.sources.source import Facts


@dataclass(frozen=True, eq=False)
class Adapted:
    """A run's classifier after adaptation. The run's own is as it was."""

    model: nn.Module
    evaluation: Evaluation
    """On the images that judge the run."""
    ledger: Ledger
    """The run's, and the images that it was adapted to."""


class Adapter:
    """Reads the images at the start of a run, so that what is missing is found before anything is trained.

    Raises `InvalidValue` for a classifier without batch norm, and what `read_images` raises.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, facts: Facts) -> None:
        assert config.adapt is not None
        batch_norms(model)
        self._config, self._settings = config, config.adapt
        self._real = read_images(
            self._settings.to,
            facts.image_shape,
            limit=self._settings.images,
            seed=self._settings.seed,
            folder=config.evaluate.folder,
        )

    def run(
        self, model: nn.Module, judge: Judge, ledger: Ledger, between: Callable[[], None] = lambda: None
    ) -> Adapted:
        """Adapt a copy of a model and judge it. `between` is called after every batch; what it raises ends it."""
        model = copy.deepcopy(model)
        normalisation = self._config.normalisation
        adapt(model, self._real.images, normalisation, self._settings, between=between)
        use = Use(by="batch norm adaptation", information="unlabelled", what=str(self._real), direct=True)
        return Adapted(model.eval(), judge.evaluate(model, normalisation, between), ledger.plus(use))
