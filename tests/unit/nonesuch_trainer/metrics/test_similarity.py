"""MS-SSIM and diversity: what they must be for equal, unlike and collapsed images, and another implementation."""

from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics import similarity
from nonesuch_trainer.metrics.similarity import WEIGHTS, diversity, ms_ssim


def images(seed: int, n: int = 6, height: int = 28, width: int = 28, channels: int = 1) -> np.ndarray:
    """Smooth random images: coarse noise, enlarged."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, -(-height // 4), -(-width // 4), channels), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]


def noisy(clean: np.ndarray, amount: float) -> np.ndarray:
    noise = np.random.default_rng(7).normal(scale=amount, size=clean.shape)
    return (clean + noise).round().clip(0, 255).astype(np.uint8)


def test_equal_images_are_1_and_order_does_not_matter() -> None:
    a, b = images(0), noisy(images(0), 40)
    assert ms_ssim(a, a) == pytest.approx(np.ones(6))
    assert ms_ssim(a, b) == pytest.approx(ms_ssim(b, a))
    assert ms_ssim(np.zeros_like(a), np.zeros_like(a)) == pytest.approx(np.ones(6))


def test_more_noise_is_less_similar() -> None:
    a = images(0)
    means = [ms_ssim(a, noisy(a, amount)).mean() for amount in (0, 5, 20, 120)]
    assert means == sorted(means, reverse=True) and means[-1] < 0.8


def test_a_negative_is_0_and_not_a_root_of_it() -> None:
    a = images(0)
    assert ms_ssim(a, 255 - a) == pytest.approx(np.zeros(6))


def test_each_pair_is_judged_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = images(0), images(1)
    together = ms_ssim(a, b)
    assert together.shape == (6,)
    monkeypatch.setattr(similarity, "_VALUES", 2 * 28 * 28)
    assert ms_ssim(a, b) == pytest.approx(together, abs=1e-12)
    assert ms_ssim(a[3:4], b[3:4]) == pytest.approx(together[3:4], abs=1e-12)
    assert ms_ssim(a[:0], b[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("height", "width", "channels", "scales", "kernel", "sigma"),
    [
        (28, 28, 1, 3, 5, 0.7),
        (32, 32, 3, 3, 5, 0.7),
        (45, 37, 3, 3, 5, 0.7),
        (28, 28, 1, 1, 11, 1.5),
        (178, 176, 1, 5, 11, 1.5),
    ],
)
def test_another_implementation_finds_the_same(
    height: int, width: int, channels: int, scales: int, kernel: int, sigma: float
) -> None:
    a = images(0, 2, height, width, channels)
    b = noisy(a, 30)
    x, y = (torch.from_numpy(some / 255.0).permute(0, 3, 1, 2) for some in (a, b))
    expected = torch.ones(2, dtype=torch.float64)
    edge = kernel // 2  # of its map that mirrored pixels have a part in
    settings = {"sigma": sigma, "data_range": 1.0, "reduction": "none"}
    for scale in range(scales):
        _, contrast = structural_similarity_index_measure(x, y, return_contrast_sensitivity=True, **settings)
        _, similar = structural_similarity_index_measure(x, y, return_full_image=True, **settings)
        at_last = scale == scales - 1
        mean = similar[..., edge:-edge, edge:-edge].mean(dim=(1, 2, 3)) if at_last else contrast
        expected *= mean ** (WEIGHTS[scale] / sum(WEIGHTS[:scales]))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    found = ms_ssim(a, b, scales=scales, kernel=kernel, sigma=sigma)
    assert found == pytest.approx(expected.numpy(), abs=1e-9)
    assert found.max() < 0.999


@pytest.mark.parametrize("channels", [1, 3])
def test_another_implementation_that_mirrors_at_the_edge_finds_nearly_the_same(channels: int) -> None:
    a = images(0, 3, 160, 160, channels)  # where the edge of the last scale is a fifth of it
    for amount in (10, 60):
        b = noisy(a, amount)
        theirs = MultiScaleStructuralSimilarityIndexMeasure(
            kernel_size=5,
            sigma=0.7,
            reduction="none",
            data_range=1.0,
            betas=tuple(weight / sum(WEIGHTS[:3]) for weight in WEIGHTS[:3]),
        )
        theirs.update(*(torch.from_numpy(some / 255.0).permute(0, 3, 1, 2) for some in (b, a)))
        assert ms_ssim(a, b) == pytest.approx(theirs.compute().numpy(), abs=0.002)


@pytest.mark.parametrize(
    ("size", "given", "message"),
    [
        (19, {}, r"19 pixels .* need 20: give larger images, or scales = 2 \(from 10 pixels\) or 1 \(from 5 pixels\)"),
        (28, {"scales": 5, "kernel": 11}, r"28 pixels .* need 176: .* scales = 2 \(from 22 pixels\)"),
        (4, {}, "a kernel of at most 4, and one scale"),
        (28, {"scales": 6}, "scales = 6"),
        (28, {"kernel": 4}, "kernel = 4"),
        (28, {"sigma": 0.0}, "sigma = 0"),
    ],
)
def test_windows_that_do_not_fit_are_refused(size: int, given: dict[str, float], message: str) -> None:
    a = images(0, 2, size, size)
    with pytest.raises(InvalidValue, match=message):
        ms_ssim(a, a, **given)  # type: ignore[arg-type]


def test_20_pixels_fit() -> None:
    assert ms_ssim(images(0, 2, 20, 20), images(1, 2, 20, 20)).shape == (2,)


def test_what_are_no_pairs_of_images_is_refused() -> None:
    a = images(0)
    with pytest.raises(InvalidValue, match="are no pairs"):
        ms_ssim(a, a[:5])
    with pytest.raises(InvalidValue, match="type float64"):
        ms_ssim(a / 255, a)
    with pytest.raises(InvalidValue, match=r"shape \(28, 28, 1\)"):
        ms_ssim(a[0], a[0])


def test_few_images_are_all_compared() -> None:
    a = np.concatenate([images(0, 4), images(1, 1)])
    found = diversity(a, np.array([3, 3, 3, 3, 3]))
    every = [ms_ssim(a[i : i + 1], a[j : j + 1])[0] for i, j in combinations(range(5), 2)]
    assert found == {3: pytest.approx(np.mean(every))}


def test_many_images_are_compared_in_different_pairs_of_their_class() -> None:
    a = noisy(images(0, 1).repeat(40, axis=0), 60)
    labels = np.arange(40) % 2
    a[labels == 1] = 255 - a[labels == 1]  # 0 against those of class 0
    everything = diversity(a, labels, pairs=10_000)
    drawn = diversity(a, labels, pairs=80)
    assert list(drawn) == [0, 1]
    for label, value in everything.items():
        rows = a[labels == label]
        spread = np.std([ms_ssim(rows[i : i + 1], rows[j : j + 1])[0] for i, j in combinations(range(20), 2)])
        assert drawn[label] == pytest.approx(value, abs=4 * spread / np.sqrt(80))
        assert drawn[label] != value


def test_a_collapsed_class_is_1_and_a_varied_one_is_less() -> None:
    varied, collapsed = images(0, 20), images(1, 1).repeat(20, axis=0)
    found = diversity(np.concatenate([varied, collapsed]), np.repeat([0, 5], 20))
    assert found[5] == pytest.approx(1)
    assert found[0] < 0.5


def test_a_class_s_figure_depends_on_the_seed_and_on_its_own_images_alone() -> None:
    a, labels = images(0, 60), np.repeat([0, 1, 2], 20)
    whole = diversity(a, labels, pairs=30)
    assert diversity(a[labels == 1], labels[labels == 1], pairs=30) == {1: whole[1]}
    assert diversity(a, labels, pairs=30) == whole
    assert diversity(a, labels, pairs=30, seed=1)[1] != whole[1]


@pytest.mark.parametrize(
    ("labels", "pairs", "message"),
    [
        (np.array([0, 0, 0, 0, 0, 4]), 9, "class 4 has a single image"),
        (np.array([0, 0, 0]), 9, r"6 images and labels of shape \(3,\)"),
        (np.zeros(6, int), 0, "0 pairs"),
    ],
)
def test_classes_without_pairs_are_refused(labels: np.ndarray, pairs: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        diversity(images(0), labels, pairs=pairs)


def test_no_images_have_no_diversity() -> None:
    with pytest.raises(InvalidValue, match="0 images"):
        diversity(images(0)[:0], np.zeros(0, int))
