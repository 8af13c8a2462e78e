"""Real images for a dataset: the reference that minted ones are compared with."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch.ledger import Ledger, Use
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch.realdata.labelled import read_labelled
from nonesuch.seeds import numpy_rng
from nonesuch.smoothed.resident import NO_SNAPSHOT, LabelledImages, ResidentDataset
from nonesuch.smoothed.source import OnProgress
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.settings.datasets import Real
from nonesuch_trainer.sources.source import First


def balanced_rows(labels: NDArray[np.int32], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`size` rows, ascending, drawn without replacement; classes have as many each, to within one.

    Raises `InvalidValue` when a class has too few.
    """
    classes = np.unique(labels)
    chosen = []
    for turn, label in enumerate(classes):
        wanted = size // len(classes) + (turn < size % len(classes))
        rows = np.flatnonzero(labels == label)
        if len(rows) < wanted:
            raise InvalidValue(
                f"{size} images in balance take {wanted} of class {label}, which has {len(rows)}: "
                f"dataset.size can be {most_balanced(labels)} at most"
            )
        chosen.append(rng.permutation(rows)[:wanted])
    return np.sort(np.concatenate(chosen))


def most_balanced(labels: NDArray[np.int32]) -> int:
    """How many rows `balanced_rows` can draw at least, whatever the order of the classes: K times the smallest."""
    counts = np.unique(labels, return_counts=True)[1]
    return int(len(counts) * counts.min())


class RealSource:
    """A `Source` that holds a balanced subset of real images. Raises what `read_labelled` raises."""

    renewal = None

    def __init__(
        self,
        dataset: Real,
        *,
        seed: int,
        image_shape: tuple[int, int, int] | None = None,
        at_most: bool = False,
    ) -> None:
        """Draw them.

        Args:
            image_shape: (H, W, C) that they are fitted to; None fits them to the dataset's, if it has one.
            at_most: content with fewer than `dataset.size`, where there are not as many in balance.
        """
        real = read_labelled(
            dataset.data,
            dataset.split,
            image_shape=image_shape or dataset.image_shape,
            validation_per_class=dataset.validation_per_class,
            folder=dataset.folder,
        )
        size = min(dataset.size, most_balanced(real.labels)) if at_most else dataset.size
        rows = balanced_rows(real.labels, size, numpy_rng(seed, "subset"))
        self.images = LabelledImages(
            images=real.images[rows],
            labels=real.labels[rows],
            seeds=np.zeros(len(rows), np.int64),
            indices=rows.astype(np.int64),
            snapshots=np.full(len(rows), NO_SNAPSHOT, np.int64),
        )
        fingerprint = Fingerprint.taken(real)
        self.facts = Facts(
            image_shape=_shape(real),
            class_names=real.class_names,
            classes=tuple(np.unique(self.images.labels).tolist()),
            ledger=Ledger(
                uses=(
                    Use(
                        by="training",
                        information="labelled",
                        what=f"{len(rows):,} of the {len(real):,} images of {real.name}",
                        data=str(fingerprint),
                        direct=True,
                    ),
                )
            ),
            real=fingerprint,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Does nothing: nothing was asked of anybody."""

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        return First(ResidentDataset.of(self.images, device))


def _shape(real: RealImages) -> tuple[int, int, int]:
    _, h, w, c = real.images.shape
    return h, w, c
