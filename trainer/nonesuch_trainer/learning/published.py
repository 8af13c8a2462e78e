"""A run's classifier as others see it: published for mining, and filed when the run is finished."""

from torch import nn

from nonesuch.classifiers.published import Snapshot, describe, snapshot_of
from nonesuch.ledger import Ledger
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.settings.learning import Learning


def snapshot(model: nn.Module, how: Learning, facts: Facts, ledger: Ledger, *, epoch: int, step: int) -> Snapshot:
    """A model's snapshot after so many epochs, which are its version, and so many steps."""
    header = describe(
        how.classifier,
        image_shape=facts.image_shape,
        class_names=facts.class_names,
        mean=how.normalisation.mean,
        std=how.normalisation.std,
        version=epoch,
        epoch=epoch,
        step=step,
        ledger=ledger,
    )
    return snapshot_of(model, header)
