"""Judging a classifier on real images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.spec import Normalisation
from nonesuch.errors import InvalidValue
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.labelled import read_labelled
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.settings.learning import Evaluate

_BATCH = 500


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a classifier did on M images of K' classes."""

    classes: tuple[int, ...]
    """The K' labels that were told apart."""
    confusion: NDArray[np.int64]
    """(K', K') images by true class (row) and predicted class (column), in the order of `classes`"""

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, in [0, 1]."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def per_class(self) -> dict[int, float]:
        """Top-1 accuracy in [0, 1] by label; a class without images is left out."""
        totals = self.confusion.sum(axis=1)
        return {
            label: float(self.confusion[i, i] / total)
            for i, (label, total) in enumerate(zip(self.classes, totals, strict=True))
            if total
        }


def judging_images(wanted: Evaluate, facts: Facts) -> RealImages:
    """The split of real images that the settings name, in the shape of the images that are learned from.

    Raises `DataNotFound` and `IntegrityError`, as `read_labelled` does.
    """
    return read_labelled(
        wanted.data,
        wanted.split,
        image_shape=facts.image_shape,
        validation_per_class=wanted.validation_per_class,
        folder=wanted.folder,
    )


@dataclass(frozen=True, eq=False)
class Judge:
    """Real images on the device, and the classes that are told apart."""

    name: str
    """What the judging images are, and how many."""
    images: Tensor
    """The judging images, (M, H, W, C) uint8."""
    labels: Tensor
    """The labels of the judging images, (M,) int64."""
    classes: tuple[int, ...]

    @classmethod
    def load(cls, wanted: Evaluate, facts: Facts, device: torch.device) -> "Judge":
        """The judge that the settings want: the images of their split that are of the classes of `facts`.

        Raises what `judging_images` and `of` raise.
        """
        return cls.of(judging_images(wanted, facts), facts, device)

    @classmethod
    def of(cls, real: RealImages, facts: Facts, device: torch.device) -> "Judge":
        """The judge by those of some real images that are of the classes of `facts`.

        Raises `InvalidValue` if they have other classes than the images that are learned from.
        """
        if real.class_names != facts.class_names:
            raise InvalidValue(
                f"{real.name}, of {', '.join(real.class_names[:3])}, …, cannot judge what learns from "
                f"{', '.join(facts.class_names[:3])}, …: choose a generator of the same classes, or other images in "
                "[evaluate]"
            )
        rows = np.flatnonzero(np.isin(real.labels, facts.classes))
        return cls(
            name=f"{len(rows):,} images of {real.name}",
            images=torch.from_numpy(real.images[rows]).to(device),
            labels=torch.from_numpy(real.labels[rows]).long().to(device),
            classes=facts.classes,
        )

    def evaluate(
        self, model: nn.Module, normalisation: Normalisation, between: Callable[[], None] = lambda: None
    ) -> Evaluation:
        """Judge a model, in eval mode for the while. `between` is called after every batch; what it raises ends it.

        Raises `InvalidValue` for a model whose logits are not finite: the first class would be its answer.
        """
        chosen = torch.tensor(self.classes, device=self.labels.device)  # (K',)
        place = torch.full((int(chosen.max()) + 1,), -1, device=chosen.device)  # label → its place in `classes`
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        confusion = torch.zeros(len(chosen) ** 2, dtype=torch.int64)
        was_training = model.training
        model.eval()
        finite = torch.ones((), dtype=torch.bool, device=self.labels.device)
        with torch.inference_mode():
            for x, y in zip(torch.split(self.images, _BATCH), torch.split(self.labels, _BATCH), strict=True):
                logits = model(input_tensor(x, normalisation))[:, chosen]  # (B, K')
                finite = finite & logits.isfinite().all()
                cells = place[y] * len(chosen) + logits.argmax(dim=1)  # (B,)
                confusion += torch.bincount(cells.cpu(), minlength=len(confusion))
                between()
        model.train(was_training)
        if not finite:
            raise InvalidValue(
                f"the classifier's answers to {self.name} are not finite: its activations overflow, as after a "
                "training that diverged; lower optimiser.lr, or warm up"
            )
        return Evaluation(self.classes, confusion.view(len(chosen), len(chosen)).numpy())
