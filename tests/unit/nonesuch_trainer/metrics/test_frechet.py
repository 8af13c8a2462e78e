"""The Fréchet distance: laws it must keep, what chance alone gives, and another implementation."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.frechet import frechet_distance, gaussian_floor


def features(seed: int, n: int = 400, d: int = 12) -> np.ndarray:
    """Correlated, of unlike variances, with a mean."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def standard(rng: np.random.Generator, n: int, d: int) -> float:
    """The distance of two samples of N(0, I)."""
    return frechet_distance(rng.normal(size=(n, d)), rng.normal(size=(n, d)))


class Given(nn.Module):
    """The feature network whose features are its inputs."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_set_is_at_no_distance_from_itself() -> None:
    a = features(0)
    assert frechet_distance(a, a) < 1e-10 * a.var(axis=0).sum()


def test_it_is_symmetric_for_sets_of_any_size() -> None:
    a, b = features(0), features(1, n=250)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)
    assert frechet_distance(a, b) > 1


def test_a_shift_adds_its_squared_length() -> None:
    a, b = features(0), features(1)
    v = np.linspace(-2, 3, a.shape[1])
    assert frechet_distance(a, a + v) == pytest.approx(v @ v)
    centred = a - a.mean(axis=0), b - b.mean(axis=0)
    assert frechet_distance(centred[0], centred[1] + v) == pytest.approx(frechet_distance(*centred) + v @ v)


def test_stretching_each_feature_costs_the_difference_of_the_deviations() -> None:
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(400, 12)) - 0.5)
    a = (q - q.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(q, rowvar=False)).T)  # covariance I
    stretch = np.linspace(0, 3, 12)
    assert frechet_distance(a, a * stretch) == pytest.approx(((1 - stretch) ** 2).sum())


def test_turning_both_sets_changes_nothing() -> None:
    a, b = features(0), features(1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b))


def test_dead_features_and_fewer_images_than_features_are_no_trouble() -> None:
    a, b = features(0, n=8), features(1, n=9)
    a[:, 3] = b[:, 3] = 0.0
    assert frechet_distance(a, a) < 1e-6 * a.var(axis=0).sum()  # the roots of what rounding left of 0
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_one_feature_is_the_textbook_s_case() -> None:
    a, b = features(0, d=1), features(1, d=1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "anchor"), [(10_000, 0.211), (2_000, 1.06)])
def test_the_floor_of_64_features_is_the_known_one(n: int, anchor: float) -> None:
    # Variance: of the means 4/n²·2d, of the covariances ≈ d(d − 1)/n². Single draws both, so 4 deviations of two.
    deviation = np.sqrt(8 * 64 + 64 * 63) / n
    assert standard(np.random.default_rng(0), n, 64) == pytest.approx(anchor, abs=4 * np.sqrt(2) * deviation)
    assert gaussian_floor(64, n) == pytest.approx(anchor, abs=4 * deviation)


@pytest.mark.parametrize(("n", "d"), [(1_000, 4), (2_000, 16)])
def test_the_floor_is_the_mean_over_draws(n: int, d: int) -> None:
    rng = np.random.default_rng(1)
    draws = [standard(rng, n, d) for _ in range(300)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert np.mean(draws) == pytest.approx(gaussian_floor(d, n), abs=4 * error)
    assert error < 0.03 * gaussian_floor(d, n)  # or it would show nothing


def test_another_implementation_finds_the_same() -> None:
    a, b = features(0), features(1, n=300)
    theirs = FrechetInceptionDistance(feature=Given(12))
    theirs.update(torch.from_numpy(a), real=True)
    theirs.update(torch.from_numpy(b), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(theirs.compute()), rel=1e-8)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\(5, 3\) and \(5, 4\)"),
        (np.zeros(5), np.zeros(5), r"give \(N, d\)"),
        (np.zeros((5, 0)), np.zeros((5, 0)), r"give \(N, d\)"),
        (np.zeros((5, 3)), np.zeros((1, 3)), "features of 1 images are too few: give at least 2"),
        (np.zeros((5, 3)), np.diag([0, np.nan, 0]), "feature 1 of image 1 is nan"),
        (np.diag([0, 0, np.inf]), np.zeros((5, 3)), "feature 2 of image 2 is inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        frechet_distance(a, b)


@pytest.mark.parametrize(("d", "n"), [(0, 100), (4, 1)])
def test_no_floor_without_features_or_images(d: int, n: int) -> None:
    with pytest.raises(InvalidValue, match=f"d = {d}, n = {n}"):
        gaussian_floor(d, n)
