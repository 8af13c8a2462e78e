"""A user's model as a snapshot that workers can rebuild."""

from typing import Any

from torch import nn

from nonesuch.classifiers.published import Snapshot, describe, snapshot_of
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.smoothed.orders import DatasetOrders


def published(
    model: nn.Module,
    spec: ClassifierSpec,
    orders: DatasetOrders,
    normalisation: Normalisation,
    *,
    version: int,
    epoch: int,
) -> Snapshot:
    """A copy of the model's weights as they are now, for the images of a dataset. Moves them to the CPU.

    Raises `InvalidValue` for an architecture that is not registered, and `InvalidSnapshot` unless the weights are those
    of the architecture and finite.
    """
    header = describe(
        spec,
        image_shape=orders.image_shape,
        class_names=orders.class_names,
        mean=normalisation.mean,
        std=normalisation.std,
        channel="smoothed",
        version=version,
        epoch=epoch,
    )
    snapshot = snapshot_of(bare(model), header)
    snapshot.load()  # as a worker will
    return snapshot


def bare(model: nn.Module) -> nn.Module:
    """The network in a model that was wrapped for several devices, or compiled: workers know it without the wrapper."""
    inner: Any = getattr(model, "module", getattr(model, "_orig_mod", model))
    return model if inner is model or not isinstance(inner, nn.Module) else bare(inner)
