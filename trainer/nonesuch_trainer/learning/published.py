"""A classifier as others see it: the header that it is published under, and filed under when the run is finished."""

from hashlib import sha256

from torch import nn

from nonesuch.classifiers.snapshot import dump
from nonesuch.ledger import Ledger
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.sources.source import Facts


def snapshot(
    model: nn.Module, config: TrainConfig, facts: Facts, ledger: Ledger, *, channel: str, version: int, step: int
) -> tuple[SnapshotHeader, bytes]:
    """A model's header and payload. `version` is the number of epochs that it was trained for, `step` of steps."""
    payload = dump(model)
    header = SnapshotHeader(
        channel=channel,
        version=version,
        architecture=config.classifier.architecture,
        args=config.classifier.args,
        image_shape=facts.image_shape,
        classes=len(facts.class_names),
        class_names=facts.class_names,
        mean=config.normalisation.mean,
        std=config.normalisation.std,
        epoch=version,
        step=step,
        sha256=sha256(payload).hexdigest(),
        ledger=ledger,
    )
    return header, payload
