"""Everything that is measured of a set of images, generated or real, against a reference of real ones.

The same function measures both. What it finds for a second set of real images is the floor: no generator can be
expected to come below it, and a distance says little without it.

Legend: N images of H×W×C pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nonesuch_trainer.metrics.features import FeatureNetwork, Seen
from nonesuch_trainer.metrics.frechet import frechet_distance
from nonesuch_trainer.metrics.kernel import kernel_distance
from nonesuch_trainer.metrics.manifold import prdc
from nonesuch_trainer.metrics.resolution import discriminability
from nonesuch_trainer.metrics.score import class_score
from nonesuch_trainer.metrics.similarity import diversity

NEIGHBOURS = 5
PAIRS = 200
"""How many pairs of each class MS-SSIM takes at most."""


@dataclass(frozen=True)
class Measures:
    """The measures of one set of images. By-class values are by label, in [0, 1]."""

    images: int
    fid: float
    """Squared Fréchet distance of the features; biased, so compare with the floor at the same N."""
    kid: float
    """Unbiased squared maximum mean discrepancy; may be below 0."""
    kid_std: float
    precision: float
    recall: float
    density: float
    coverage: float
    score: float
    """The Inception score by the feature network's own classes: at most K."""
    agreement: dict[int, float]
    """The fraction of images that the feature network gives their label. It rises when diversity is lost: it does not
    rank generators."""
    ms_ssim: dict[int, float]
    """Mean similarity of two images of a class: lower is more diverse."""
    discriminability: dict[int, float]
    """The fraction of images that get their label when they are reduced and scaled back, by the reduced side in px."""

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
    reference: Seen,
    network: FeatureNetwork,
    *,
    seed: int = 0,
) -> Measures:
    """Measure a set of images. Takes some seconds for each 1,000 of them on a CPU.

    Args:
        images: (N, H, W, C) uint8, as they are served: after rounding.
        labels: (N,)
        reference: what the network sees in the real images that it is compared with.
        network: the feature network.
        seed: of the pairs and subsets that are drawn.

    Raises:
        InvalidValue: too few images, or images too small, for one of the measures.
    """
    seen = network(images)
    distance = kernel_distance(seen.features, reference.features, seed=seed)
    near = prdc(reference.features, seen.features, NEIGHBOURS)
    right = seen.probabilities.argmax(axis=1) == labels
    return Measures(
        images=len(images),
        fid=frechet_distance(seen.features, reference.features),
        kid=distance.mean,
        kid_std=distance.std,
        precision=near.precision,
        recall=near.recall,
        density=near.density,
        coverage=near.coverage,
        score=class_score(seen.probabilities, seed=seed).mean,
        agreement={int(label): float(right[labels == label].mean()) for label in np.unique(labels)},
        ms_ssim=diversity(images, labels, pairs=PAIRS, seed=seed),
        discriminability=discriminability(images, labels, lambda some: network(some).probabilities.argmax(axis=1)),
    )


def over_classes(values: Mapping[int, float]) -> float:
    """The mean of a by-class measure: every class counts the same."""
    return float(np.mean(list(values.values())))
