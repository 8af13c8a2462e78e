"""Everything that is measured of a set of images, generated or real, against a reference of real ones.

The same function measures both. What it finds for a second set of real images is the floor: no generator can be
expected to come below it, and a distance says little without it.

What cannot be taken (of few images, of small ones, by a network that does not know them) is left out and says why; the
rest is taken all the same.

Legend: N images of H×W×C pixels, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.features import FeatureNetwork, Seen
from nonesuch_trainer.metrics.frechet import frechet_distance
from nonesuch_trainer.metrics.kernel import kernel_distance
from nonesuch_trainer.metrics.manifold import prdc
from nonesuch_trainer.metrics.resolution import discriminability
from nonesuch_trainer.metrics.score import class_score
from nonesuch_trainer.metrics.similarity import SMALLEST, diversity

T = TypeVar("T")

NEIGHBOURS = 5
PAIRS = 200
"""How many pairs of each class MS-SSIM takes at most."""
BY_FEATURES = (
    "fid", "kid", "precision", "recall", "density", "coverage", "score", "agreement", "discriminability",
)  # fmt: skip
"""The measures that take a feature network."""
UNKNOWN = "the shipped feature network knows Fashion-MNIST alone: name a classifier of these images by --features"


@dataclass(frozen=True, eq=False)
class View:
    """What images are seen through, and what is seen in the real ones that they are compared with."""

    network: FeatureNetwork
    reference: Seen


@dataclass(frozen=True)
class Measures:
    """The measures of one set of images. By-class values are by label, in [0, 1].

    None, and a label that is not there, is what could not be taken: `missing` says why.
    """

    images: int
    fid: float | None = None
    """Squared Fréchet distance of the features; biased, so compare with the floor at the same N."""
    kid: float | None = None
    """Unbiased squared maximum mean discrepancy; may be below 0."""
    kid_std: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    score: float | None = None
    """The Inception score by the feature network's own classes: at most K."""
    agreement: Mapping[int, float] = field(default_factory=dict)
    """The fraction of images that the feature network gives their label. It rises when diversity is lost: it does not
    rank generators."""
    ms_ssim: Mapping[int, float] = field(default_factory=dict)
    """Mean similarity of two images of a class: lower is more diverse."""
    discriminability: Mapping[int, float] = field(default_factory=dict)
    """The fraction of images that get their label when they are reduced and scaled back, by the reduced side in px."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Reasons by the name of a measure above: why it could not be taken, of some classes or at all."""

    def document(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """All measures as JSON, rounded, with classes by name."""
        values: dict[str, Any] = {
            name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in asdict(self).items()
        }
        for name in ("agreement", "ms_ssim"):
            values[name] = {class_names[label]: round(value, 4) for label, value in values[name].items()}
        values["discriminability"] = {str(side): round(v, 4) for side, v in self.discriminability.items()}
        return values


def measure(
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    view: View | None,
    *,
    class_names: tuple[str, ...],
    seed: int = 0,
) -> Measures:
    """Measure a set of images. Takes some seconds for each 1,000 of them on a CPU.

    Args:
        images: (N, H, W, C) uint8, as they are served: after rounding. One is enough.
        labels: (N,)
        view: None when no feature network knows such images.
        class_names: by label, for what is said of a class.
        seed: of the pairs and subsets that are drawn.

    Returns:
        All that can be taken of these images; of the rest, why it cannot.
    """
    missing: dict[str, str] = {}

    def taken(take: Callable[[], T], *names: str) -> T | None:
        try:
            return take()
        except InvalidValue as error:
            missing.update(dict.fromkeys(names, str(error)))
            return None

    similarity = taken(lambda: _diversity(images, labels, class_names, seed, missing), "ms_ssim")
    if view is None:
        missing.update(dict.fromkeys(BY_FEATURES, UNKNOWN))
        return Measures(images=len(images), ms_ssim=similarity or {}, missing=missing)
    seen, real = view.network(images), view.reference
    distance = taken(lambda: kernel_distance(seen.features, real.features, seed=seed), "kid")
    near = taken(
        lambda: prdc(real.features, seen.features, NEIGHBOURS), "precision", "recall", "density", "coverage"
    )  # fmt: skip
    score = taken(lambda: class_score(seen.probabilities, seed=seed), "score")
    return Measures(
        images=len(images),
        fid=taken(lambda: frechet_distance(seen.features, real.features), "fid"),
        kid=distance.mean if distance else None,
        kid_std=distance.std if distance else None,
        precision=near.precision if near else None,
        recall=near.recall if near else None,
        density=near.density if near else None,
        coverage=near.coverage if near else None,
        score=score.mean if score else None,
        agreement=taken(lambda: _agreement(seen, labels), "agreement") or {},
        ms_ssim=similarity or {},
        discriminability=taken(
            lambda: discriminability(images, labels, lambda some: _named(view.network(some))), "discriminability"
        )
        or {},
        missing=missing,
    )


def over_classes(values: Mapping[int, float]) -> float | None:
    """The mean of a by-class measure: every class counts the same. None if it could be taken of none."""
    return float(np.mean(list(values.values()))) if values else None


def _diversity(
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    class_names: tuple[str, ...],
    seed: int,
    missing: dict[str, str],
) -> dict[int, float]:
    """MS-SSIM of the classes that have pairs; those that have none are noted in `missing`."""
    side = min(images.shape[1:3])
    if side < SMALLEST:
        raise InvalidValue(f"images of {side} pixels are too small for its three scales, which take {SMALLEST}")
    present, counts = np.unique(labels, return_counts=True)
    if len(single := present[counts == 1]):
        shown = ", ".join(class_names[label] for label in single)
        missing["ms_ssim"] = f"there is a single image, so no pair, of {shown}"
    rows = np.flatnonzero(np.isin(labels, present[counts > 1]))
    return diversity(images[rows], labels[rows], pairs=PAIRS, seed=seed) if len(rows) else {}


def _agreement(seen: Seen, labels: NDArray[np.int32]) -> dict[int, float]:
    right = _named(seen) == labels  # (N,)
    return {int(label): float(right[labels == label].mean()) for label in np.unique(labels)}


def _named(seen: Seen) -> NDArray[np.int64]:
    """(N,) the class that each image is taken for. Raises `InvalidValue` if the network does not know."""
    if not np.isfinite(seen.probabilities).all():
        raise InvalidValue(
            "the feature network's activations overflow, so it names no class: name another by --features"
        )
    names: NDArray[np.int64] = seen.probabilities.argmax(axis=1)
    return names
