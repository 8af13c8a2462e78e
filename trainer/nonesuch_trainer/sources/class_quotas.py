"""Class quotas: more images of the classes that the classifier gets wrong, by its error on real images set apart.

The labels of those images decide what is minted, so they are real information that the run uses, though the classifier
is never shown the images.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from nonesuch.classifiers.spec import Normalisation
from nonesuch.ledger import Use
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch_trainer.learning.facts import Facts
from nonesuch_trainer.learning.judging import Judge, judging_images
from nonesuch_trainer.settings.datasets import ClassQuotas
from nonesuch_trainer.settings.learning import Evaluate


def quota(total: int, errors: Sequence[float], strength: float) -> list[int]:
    """How many of `total` images each of K classes gets: (1 − strength) of them in equal shares, the rest in
    proportion to the errors in [0, 1] (in equal shares too, if there are none).

    The counts are whole by the largest remainder (of equal ones the first), add up, and leave no class without an image
    if total ≥ K.
    """
    classes, sum_of_errors = len(errors), sum(errors)
    by_error = [error / sum_of_errors if sum_of_errors else 1 / classes for error in errors]
    ideal = [total * ((1 - strength) / classes + strength * share) for share in by_error]
    counts = [int(images) for images in ideal]
    by_remainder = sorted(range(classes), key=lambda i: (counts[i] - ideal[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    while total >= classes and 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts


class ClassErrors:
    """A classifier's error on the real images that class quotas go by: those that judge, of another split.

    Raises, when it is made, what `judging_images` and `Judge.of` raise.
    """

    def __init__(self, quotas: ClassQuotas, judging: Evaluate, facts: Facts, device: torch.device) -> None:
        real = judging_images(judging.model_copy(update={"split": quotas.split}), facts)
        self._judge = Judge.of(real, facts, device)
        data = str(Fingerprint.taken(real))
        self.use = Use(by="class quotas", information="labelled", what=self._judge.name, data=data)
        """What class quotas use of real information, for the run's ledger."""

    def of(
        self, model: nn.Module, normalisation: Normalisation, between: Callable[[], None] = lambda: None
    ) -> dict[int, float]:
        """A classifier's error in [0, 1], by label. Blocks while it looks at every image.

        `between` is called after every batch.
        """
        return {
            label: 1.0 - accuracy
            for label, accuracy in self._judge.evaluate(model, normalisation, between).per_class.items()
        }
