"""A classifier as others see it: its header, made in this one place, and the snapshot that it is published as.

Imports no torch: whoever has none can hand a snapshot on.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.config import validated
from nonesuch.ledger import UNKNOWN, Ledger
from nonesuch.snapshots import SnapshotHeader

if TYPE_CHECKING:
    from torch import device, nn

CLASSIFIER = "classifier.safetensors"
"""The name of the classifier file in a run's folder."""
UNSIGNED = "0" * 64
"""The sha256 of a header whose weights are not known yet."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A published classifier, or one to be published."""

    header: SnapshotHeader
    payload: bytes
    """The weights, as the bytes of a safetensors file."""

    def load(self, device: "device | str" = "cpu") -> "nn.Module":
        """The network, in eval mode, frozen. Takes torch. Raises `InvalidSnapshot`."""
        from nonesuch.classifiers.snapshot import load_snapshot

        return load_snapshot(self.header, self.payload, device)


def describe(
    spec: ClassifierSpec,
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channel: str = "default",
    version: int = 0,
    epoch: int = 0,
    step: int = 0,
    sha256: str = UNSIGNED,
    ledger: Ledger = UNKNOWN,
) -> SnapshotHeader:
    """The header of a classifier with an output for each of `class_names`, of images (H, W, C).

    Whoever publishes it may know channel, version and sha256 better. Raises `InvalidValue` for what cannot be.
    """
    given = {**spec.model_dump(), "classes": len(class_names), "ledger": ledger}
    given |= {"image_shape": image_shape, "class_names": class_names, "mean": mean, "std": std}
    given |= {"channel": channel, "version": version, "epoch": epoch, "step": step, "sha256": sha256}
    return validated(SnapshotHeader, given, "the description of the network")


def snapshot_of(model: "nn.Module", header: SnapshotHeader) -> Snapshot:
    """A copy of a model's weights as they are now, under a header that gets their sha256. Moves them to the CPU."""
    from nonesuch.classifiers.snapshot import dump

    payload = dump(model)
    return Snapshot(header.model_copy(update={"sha256": hashlib.sha256(payload).hexdigest()}), payload)
