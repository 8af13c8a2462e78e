"""What a conditioned generator's images are taken for, and how much those of a class differ.

Everything is measured on images as they are delivered, uint8.

Shapes: B images, K classes, P = C·H·W pixels, Z = z_dim.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nonesuch.model import Frozen
from nonesuch.orders import default_ticket_size
from nonesuch_worker.condition.scores import Scores, scores
from nonesuch_worker.generators.base import Generator, to_uint8_NHWC
from nonesuch_worker.generators.conditioned.loading import ConditionedGenerator
from nonesuch_worker.latents import latents
from nonesuch_worker.strategies.scores import look

FEWEST = 20
"""The fewest images of its own that the base must have of a class; with fewer there is no diversity to compare with."""


class Diversity(Frozen):
    """How much the images of a class differ, and where their latents are."""

    name: str
    distance: float
    """Root mean square difference of a pixel, in [0, 1], between two images of the class."""
    base_share: float
    """The fraction of the base generator's images that the classifier takes for this class."""
    base_distance: float | None
    """`distance` of the base's own images of the class; None where they are fewer than `FEWEST`, or all the same."""
    diversity: float | None
    """`distance / base_distance`: at 1 they are as diverse as the base's own."""
    sigma: float
    """The mean of σ over the latent's coordinates."""
    shift: float
    """|μ| / √Z, in [0, 1): how far the class is from the middle of the base's latents."""


class Report(Frozen):
    """What came of a conditioning."""

    images: int
    """How many images of each class were measured."""
    classifier: Scores
    """The scores by the classifier that it was trained with, as in the paper."""
    judge: Scores | None
    """The scores by an independent classifier, if there was one."""
    classes: tuple[Diversity, ...]
    diversity: float | None
    """The mean diversity over the classes that have one."""
    sigma: float

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that go onto the card, by name."""
        found = {
            "accuracy": self.classifier.accuracy,
            "macro_f1": self.classifier.macro_f1,
            "judge_accuracy": self.judge.accuracy if self.judge else None,
            "diversity": self.diversity,
            "sigma": self.sigma,
        }
        return {name: value for name, value in found.items() if value is not None}


def measure(
    generator: ConditionedGenerator,
    classifier: nn.Module,
    judge: nn.Module | None,
    *,
    images: int,
    seed: int,
    advance: Callable[[int], None] = lambda more: None,
) -> Report:
    """Measure `images` images of each class, which are those of an order of strategy random with that seed.

    The base's own images are made of the same latents, as many in all. `advance` is told how many images of the
    conditioned generator were looked at.
    """
    base, names, device = generator.base, generator.info.class_names, generator.device
    classes = len(names)
    size = default_ticket_size(generator.info.image_shape)
    confusion, judged = (torch.zeros(classes, classes, dtype=torch.int64, device=device) for _ in range(2))
    made, own = Spread(classes, base), Spread(classes, base)
    for start in range(0, images * classes, size):
        indices = np.arange(start, min(start + size, images * classes))
        labels = torch.from_numpy(indices % classes).to(device)  # (B,)
        epsilon = torch.from_numpy(latents(seed, indices, base.info.z_dim)).to(device)  # (B, Z)
        with torch.no_grad():
            pixels = to_uint8_NHWC(generator(epsilon, labels))
            _count(confusion, labels, look(classifier, pixels, "classifier").argmax(dim=1))
            if judge is not None:
                _count(judged, labels, look(judge, pixels, "judge").argmax(dim=1))
            made.add(pixels, labels)
            pixels = to_uint8_NHWC(base(epsilon, torch.zeros_like(labels)))
            own.add(pixels, look(classifier, pixels, "classifier").argmax(dim=1))
        advance(len(indices))
    rows = _diversities(generator, made, own)
    known = [row.diversity for row in rows if row.diversity is not None]
    return Report(
        images=images,
        classifier=scores(confusion.cpu().numpy(), names),
        judge=None if judge is None else scores(judged.cpu().numpy(), names),
        classes=rows,
        diversity=float(np.mean(known)) if known else None,
        sigma=float(generator.sigma.mean()),
    )


class Spread:
    """The distance of two different images of a class, over all pairs, from sums: no image is kept.

    With unbiased variances s² of the P pixels, the mean square difference of two images is 2 Σ s² / P.
    """

    def __init__(self, classes: int, generator: Generator) -> None:
        self._pixels = int(np.prod(generator.info.image_shape))
        self.counts = torch.zeros(classes, dtype=torch.float64, device=generator.device)  # (K,)
        self._squares = torch.zeros_like(self.counts)  # (K,)
        self._sums = self.counts.new_zeros(classes, self._pixels)  # (K, P)

    def add(self, images_NHWC: Tensor, labels: Tensor) -> None:
        """Count images (B, H, W, C) uint8 of these labels (B,) in."""
        x = images_NHWC.flatten(1).double() / 255  # (B, P)
        self.counts.index_add_(0, labels, torch.ones_like(x[:, 0]))
        self._sums.index_add_(0, labels, x)
        self._squares.index_add_(0, labels, x.square().sum(dim=1))

    def distances(self) -> Tensor:
        """The distance of each class, (K,) float64; 0 for a class of fewer than two images."""
        around = self._squares - self._sums.square().sum(dim=1) / self.counts.clamp_min(1)
        return (2 * around.clamp_min(0) / (self.counts - 1).clamp_min(1) / self._pixels).sqrt()


def _count(confusion: Tensor, labels: Tensor, seen: Tensor) -> None:
    classes = len(confusion)
    confusion += torch.bincount(labels * classes + seen, minlength=classes**2).view(classes, classes)


def _diversities(generator: ConditionedGenerator, made: Spread, own: Spread) -> tuple[Diversity, ...]:
    shifts = generator.mu.norm(dim=1) / generator.mu.shape[1] ** 0.5  # (K,)
    columns = (
        generator.info.class_names,
        made.distances().tolist(),
        own.distances().tolist(),
        own.counts.tolist(),
        generator.sigma.mean(dim=1).tolist(),
        shifts.tolist(),
    )
    total = float(own.counts.sum())
    rows = []
    for name, distance, base_distance, count, sigma, shift in zip(*columns, strict=True):
        known = count >= FEWEST and base_distance > 0
        rows.append(
            Diversity(
                name=name,
                distance=distance,
                base_share=count / total,
                base_distance=base_distance if known else None,
                diversity=distance / base_distance if known else None,
                sigma=sigma,
                shift=shift,
            )
        )
    return tuple(rows)
