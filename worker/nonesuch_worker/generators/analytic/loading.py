"""A generator in closed form: what a perfect classifier would answer is known exactly.

Class k has a mean m_k in a d-dimensional latent space, and an image is a linear picture of a point near it:

    u = m_y + z,   x = A u,   z ~ N(0, σ²I)

The columns of A are d smooth patterns (two-dimensional cosines, lowest frequencies first), of one length and at right
angles to each other. So u can be read off an image, and Bayes' rule with equally probable classes gives

    p(y | x) ∝ exp(−|u − m_y|² / 2σ²).

The length of the patterns is such that at σ = 1 every pixel of every class stays in [-1, 1] up to six standard
deviations. Nothing is clamped here; the conversion to uint8 clamps, and rounds.

Shapes: B samples, C channels, H = W = size, P = C·H·W pixels, K classes, d = z_dim.
"""

import hashlib
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from nonesuch.config import validated
from nonesuch.model import Frozen, Name
from nonesuch.offers import GeneratorInfo
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.latents import ANALYTIC, latents

CLEARANCE = 6.0
"""Standard deviations of a pixel, at σ = 1, between its class mean and the end of the range."""
MAX_SIGMA = 4.0


class AnalyticParams(Frozen):
    """What the images look like, and how hard the classes are to tell apart."""

    id: Name = "analytic"
    """The generator's id; change it to host several at once."""
    classes: int = Field(default=10, ge=2, le=1000)
    size: int = Field(default=16, ge=2, le=512)
    """The side of the images, H = W, pixels."""
    channels: int = Field(default=1, ge=1, le=4)
    z_dim: int = Field(default=8, ge=1, le=256)
    separation: float = Field(default=3.0, gt=0)
    """Distance of the two closest class means, in standard deviations at σ = 1."""
    seed: int = Field(default=0, ge=0)
    """The seed of the class means."""

    @model_validator(mode="after")
    def _patterns_fit(self) -> Self:
        pixels = self.channels * self.size**2
        if self.z_dim > pixels:
            raise ValueError(f"z_dim {self.z_dim} is more than the {pixels} numbers of an image: lower it")
        return self

    @classmethod
    def parse(cls, argument: str) -> Self:
        """The parameters from `classes=10,size=16`; what is not named keeps its default. Raises `InvalidValue`."""
        pairs = [item.partition("=") for item in argument.split(",") if item]
        return validated(cls, {key.strip(): value.strip() for key, _, value in pairs}, f"analytic:{argument}")


class AnalyticGenerator:
    """A generator in closed form, as the module's docstring derives it. Satisfies `Generator`."""

    def __init__(self, params: AnalyticParams, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.info = _info(params)
        self._shape = (params.channels, params.size, params.size)
        patterns = _patterns(self._shape, params.z_dim)  # (d, P)
        means = _means(params)  # (K, d)
        reach = np.abs(means @ patterns) + CLEARANCE * np.linalg.norm(patterns, axis=0)  # (K, P)
        scale = 1 / reach.max()
        self.means = torch.from_numpy(means).to(self.device, torch.float32)
        self._a = torch.from_numpy(scale * patterns).to(self.device, torch.float32)  # (d, P): A, transposed
        self._inverse = torch.from_numpy(patterns.T / scale).to(self.device)  # (P, d) float64

    def __call__(self, z: Tensor, labels: Tensor, truncation: float | None = None) -> Tensor:
        """Make images, as `Generator` says. `truncation` changes nothing here."""
        x: Tensor = (self.means[labels] + z) @ self._a
        return x.view(-1, *self._shape)

    def posterior(self, x: Tensor, sigma: float = 1.0) -> Tensor:
        """p(y | x) for images of z ~ N(0, σ²I) with every class equally probable.

        Args:
            x: (B, C, H, W) float. Images that went through uint8 carry its rounding into the answer.
            sigma: σ > 0 that they were made with.

        Returns:
            (B, K) float64; rows sum to 1.
        """
        u = x.flatten(1).double() @ self._inverse  # (B, d)
        distance = torch.cdist(u, self.means.double(), compute_mode="donot_use_mm_for_euclid_dist")  # (B, K)
        return torch.softmax(-(distance**2) / (2 * sigma**2), dim=1)

    def bayes_accuracy(self, sigma: float = 1.0, samples: int = 20_000) -> float:
        """The accuracy of the perfect classifier, in [0, 1]: what no other can beat. The mean largest posterior.

        Its standard error is below 0.5 / sqrt(samples). The same on every call.
        """
        labels = torch.arange(samples, device=self.device) % len(self.means)
        z = torch.from_numpy(latents(0, np.arange(samples), self.info.z_dim, sigma)).to(self.device)
        return float(self.posterior(self(z, labels), sigma).amax(dim=1).mean())


def load(argument: str, device: torch.device) -> Generator:
    """The loader of `analytic:key=value,...` with the fields of `AnalyticParams`."""
    return AnalyticGenerator(AnalyticParams.parse(argument), device)


def _info(params: AnalyticParams) -> GeneratorInfo:
    return GeneratorInfo(
        id=params.id,
        family="analytic",
        sha256=hashlib.sha256(params.model_dump_json(exclude={"id"}).encode()).hexdigest(),
        image_shape=(params.size, params.size, params.channels),
        class_names=tuple(f"class {k}" for k in range(params.classes)),
        z_dim=params.z_dim,
        max_sigma=MAX_SIGMA,
        license="Apache-2.0",
        real_information="none",
        description=f"closed form, {params.classes} classes {params.separation:g} standard deviations apart",
    )


def _patterns(shape: tuple[int, int, int], count: int) -> NDArray[np.float64]:
    """(count, P) orthonormal rows: products of cosines (DCT-II) in one channel each, low frequencies first."""
    channels, height, width = shape
    places = [(i, j, c) for i in range(height) for j in range(width) for c in range(channels)]
    chosen = sorted(places, key=lambda p: (p[0] ** 2 + p[1] ** 2, p))[:count]
    rows = np.zeros((count, channels, height, width))
    for row, (i, j, c) in enumerate(chosen):
        rows[row, c] = np.outer(_cosine(i, height), _cosine(j, width))
    return rows.reshape(count, -1)


def _cosine(frequency: int, length: int) -> NDArray[np.float64]:
    """A cosine of a frequency, (length,), of norm 1."""
    wave: NDArray[np.float64] = np.cos(np.pi * frequency * (np.arange(length) + 0.5) / length)
    wave /= np.linalg.norm(wave)
    return wave


def _means(params: AnalyticParams) -> NDArray[np.float64]:
    """The class means, (K, d): normal points, scaled so that the two closest are `separation` apart."""
    means = latents(params.seed, np.arange(params.classes), params.z_dim, stream=ANALYTIC).astype(np.float64)
    distances = np.linalg.norm(means[:, None] - means[None], axis=-1)  # (K, K)
    means *= params.separation / distances[~np.eye(params.classes, dtype=bool)].min()
    return means
