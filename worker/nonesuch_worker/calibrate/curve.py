"""What mining does to images, step by step: how sure the classifier still is, and whether a teacher still agrees.

Shapes: B images, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nonesuch.orders import default_ticket_size
from nonesuch_worker.generators.base import Generator, to_uint8_NHWC
from nonesuch_worker.latents import latents
from nonesuch_worker.strategies.mining import MiningParams, mine
from nonesuch_worker.strategies.scores import look


@dataclass(frozen=True)
class Point:
    """Images after some steps."""

    eta: float
    steps: int
    """How many steps were walked; 0: random images."""
    top_probability: float
    """The mean, over images, of the largest probability that the classifier gives."""
    agreement: float
    """The fraction of the images, as they would be delivered, that the teacher takes for their label."""


def measure(
    generator: Generator,
    classifier: nn.Module,
    teacher: nn.Module,
    params: Sequence[MiningParams],
    *,
    images: int,
    seed: int,
    advance: Callable[[int], None] = lambda more: None,
) -> list[Point]:
    """One curve for each of `params`, of `steps` + 1 points: each is mined once, with all of its steps.

    Image i has label i mod K and the latent of index i of an order with that seed, so all curves start from the same
    images. Classifier and teacher take (B, C, H, W) in [-1, 1]; `advance` is told how many more images were mined.
    """
    points = []
    size = default_ticket_size(generator.info.image_shape)
    for given in params:
        sums = torch.zeros(given.steps + 1, 2, dtype=torch.float64)  # top probability, agreement
        for start in range(0, images, size):
            indices = np.arange(start, min(start + size, images))
            sums += _sums(generator, classifier, teacher, given, indices, seed)
            advance(len(indices))
        for steps, (top, agreement) in enumerate((sums / images).tolist()):
            points.append(Point(given.eta, steps, top, agreement))
    return points


def _sums(
    generator: Generator,
    classifier: nn.Module,
    teacher: nn.Module,
    params: MiningParams,
    indices: NDArray[np.int64],
    seed: int,
) -> Tensor:
    """(S + 1, 2) float64: sums over the images of these indices after each step."""
    device, info = generator.device, generator.info
    labels = torch.from_numpy(indices % len(info.class_names)).to(device)  # (B,)
    z = torch.from_numpy(latents(seed, indices, info.z_dim, params.sigma, params.truncation)).to(device)
    sums = torch.zeros(params.steps + 1, 2, dtype=torch.float64)

    def watch(step: int, x: Tensor, logits: Tensor) -> None:
        with torch.no_grad():
            seen = look(teacher, to_uint8_NHWC(x), "teacher").argmax(dim=1)
        sums[step, 0] = logits.softmax(dim=1).amax(dim=1).double().sum().cpu()
        sums[step, 1] = (seen == labels).sum().cpu()

    mine(lambda latent: generator(latent, labels, params.truncation), classifier, z, labels, params, watch)
    return sums
