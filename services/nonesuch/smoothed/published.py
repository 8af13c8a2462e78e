"""A user's model as a snapshot that workers can rebuild."""

from hashlib import sha256
from typing import Any

from torch import nn

from nonesuch.classifiers import ClassifierSpec, Normalisation
from nonesuch.classifiers.snapshot import dump, load_snapshot
from nonesuch.offers import GeneratorInfo
from nonesuch.smoothed.source import Snapshot
from nonesuch.snapshots import SnapshotHeader


def snapshot_of(
    model: nn.Module,
    spec: ClassifierSpec,
    info: GeneratorInfo,
    normalisation: Normalisation,
    *,
    version: int,
    epoch: int,
) -> Snapshot:
    """A copy of the model's weights as they are now, for images of the generator. Moves them to the CPU.

    Raises `InvalidValue` for an architecture that is not registered, and `InvalidSnapshot` unless the weights are those
    of the architecture and finite.
    """
    payload = dump(bare(model))
    header = SnapshotHeader(
        channel="smoothed",
        version=version,
        architecture=spec.architecture,
        args=spec.args,
        image_shape=info.image_shape,
        classes=len(info.class_names),
        class_names=info.class_names,
        mean=normalisation.mean,
        std=normalisation.std,
        epoch=epoch,
        step=0,
        sha256=sha256(payload).hexdigest(),
    )
    load_snapshot(header, payload)  # as a worker will
    return Snapshot(header, payload)


def bare(model: nn.Module) -> nn.Module:
    """The network in a model that was wrapped for several devices, or compiled: workers know it without the wrapper."""
    inner: Any = getattr(model, "module", getattr(model, "_orig_mod", model))
    return model if inner is model or not isinstance(inner, nn.Module) else bare(inner)
