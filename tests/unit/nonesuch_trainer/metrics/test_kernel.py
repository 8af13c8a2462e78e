"""The kernel distance: its definition, its lack of bias, and another implementation."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.kernel import Kernel, kernel_distance

KEEPS_FEATURES = pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")


def features(seed: int, n: int = 300, d: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def theirs(a: np.ndarray, b: np.ndarray, subsets: int, subset_size: int) -> tuple[float, float]:
    metric = KernelInceptionDistance(feature=nn.Identity(), subsets=subsets, subset_size=subset_size)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    mean, std = metric.compute()
    return float(mean), float(std)


def test_it_is_what_its_definition_says() -> None:
    a, b = features(0, n=7), features(1, n=5, shift=0.5)
    within_a = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    across = np.mean([kernel(x, y) for x in a for y in b])
    found = kernel_distance(a, b)
    assert found.mean == pytest.approx(within_a + within_b - 2 * across)
    assert found.std == 0


def test_on_one_law_it_is_0_on_average_and_sometimes_negative() -> None:
    found = [kernel_distance(features(2 * i, n=30), features(2 * i + 1, n=40)).mean for i in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(400)
    assert min(found) < 0 < max(found)


def test_the_mean_over_subsets_has_no_bias_either() -> None:
    found = [
        kernel_distance(features(2 * i, n=60), features(2 * i + 1, n=60), subsets=5, subset_size=20, seed=i).mean
        for i in range(300)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(300)


def test_it_grows_with_the_difference_and_is_symmetric() -> None:
    a = features(0)
    distances = [kernel_distance(a, features(1, shift=shift)).mean for shift in (0.0, 0.2, 0.4)]
    assert distances == sorted(distances)
    b = features(1, n=200, shift=0.4)
    assert kernel_distance(a, b).mean == pytest.approx(kernel_distance(b, a).mean)


def test_the_seed_chooses_the_subsets() -> None:
    a, b = features(0), features(1)

    def distance(seed: int) -> Kernel:
        return kernel_distance(a, b, subsets=10, subset_size=50, seed=seed)

    assert distance(3) == distance(3)
    assert distance(3) != distance(4)
    assert distance(3).std > 0


def test_a_small_set_is_used_whole_beside_subsets_of_a_large_one() -> None:
    a, b = features(0, n=20), features(1, n=21)
    found = kernel_distance(a, b, subsets=21 * 40, subset_size=20)
    leave_one_out = [kernel_distance(a, np.delete(b, i, axis=0)).mean for i in range(21)]
    assert found.mean == pytest.approx(np.mean(leave_one_out), abs=5 * np.std(leave_one_out) / np.sqrt(21 * 40))
    assert found.std == pytest.approx(np.std(leave_one_out), rel=0.2)


@KEEPS_FEATURES
def test_another_implementation_finds_the_same_on_whole_sets() -> None:
    a, b = features(0), features(1, shift=0.3)
    mean, _ = theirs(a, b, subsets=1, subset_size=300)
    assert kernel_distance(a, b).mean == pytest.approx(mean, rel=1e-9)


@KEEPS_FEATURES
def test_another_implementation_finds_the_same_over_subsets() -> None:
    a, b = features(0), features(1, shift=0.3)
    torch.manual_seed(0)
    mean, std = theirs(a, b, subsets=200, subset_size=100)
    ours = kernel_distance(a, b, subsets=200, subset_size=100)
    assert ours.mean == pytest.approx(mean, abs=4 * np.sqrt(2) * std / np.sqrt(200))
    assert ours.std == pytest.approx(std, rel=4 * np.sqrt(2) / np.sqrt(2 * 200))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"subsets": 0}, "0 subsets of 1000 images"), ({"subset_size": 1}, "100 subsets of 1 images")],
)
def test_subsets_that_cannot_be_are_refused(given: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        kernel_distance(features(0), features(1), **given)


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InvalidValue, match="the same network"):
        kernel_distance(features(0), features(1, d=7))
