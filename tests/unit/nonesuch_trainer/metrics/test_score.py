"""The Inception score: its bounds, its splits, and another implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.inception import InceptionScore

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.score import class_score


def one_hot(classes: int, each: int) -> np.ndarray:
    """Sure of every image, sorted by class."""
    return np.repeat(np.eye(classes), each, axis=0)


def softmax(seed: int, n: int = 200, classes: int = 10, sharpness: float = 2.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(n, classes))
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("classes", [2, 10])
def test_sure_and_balanced_is_the_number_of_classes(classes: int) -> None:
    assert class_score(one_hot(classes, 7), splits=1).mean == pytest.approx(classes)


def test_always_the_same_answer_is_1() -> None:
    found = class_score(np.tile([0.7, 0.2, 0.1, 0.0], (50, 1)))
    assert found.mean == pytest.approx(1) and found.std == pytest.approx(0, abs=1e-12)


def test_two_images_by_hand() -> None:
    # p(y) = (3/4, 1/4): KL is log 4/3 for the sure one, and for the other 1/2·log(2/3) + 1/2·log 2
    expected = np.exp((np.log(4 / 3) + 0.5 * np.log(2 / 3) + 0.5 * np.log(2)) / 2)
    assert class_score(np.array([[1.0, 0.0], [0.5, 0.5]]), splits=1).mean == pytest.approx(expected)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 12), sharpness=st.floats(0, 50), splits=st.integers(1, 5))
def test_it_lies_between_1_and_the_number_of_classes(seed: int, classes: int, sharpness: float, splits: int) -> None:
    found = class_score(softmax(seed, 30, classes, sharpness), splits)
    assert 1 - 1e-9 <= found.mean <= classes + 1e-9


def test_images_sorted_by_class_want_shuffling() -> None:
    sorted_by_class = one_hot(10, 100)
    assert class_score(sorted_by_class).mean == pytest.approx(1)
    assert class_score(sorted_by_class, seed=0).mean > 9
    assert class_score(sorted_by_class, seed=0) == class_score(sorted_by_class, seed=0)
    assert class_score(sorted_by_class, seed=0) != class_score(sorted_by_class, seed=1)


def test_splits_are_scored_one_by_one() -> None:
    p = softmax(0, 60)
    parts = [class_score(part, splits=1).mean for part in np.split(p, 3)]
    found = class_score(p, splits=3)
    assert found.mean == pytest.approx(np.mean(parts)) and found.std == pytest.approx(np.std(parts))


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save all extracted features:UserWarning")
@pytest.mark.filterwarnings(r"ignore:std\(\). degrees of freedom is <= 0:UserWarning")  # of a single split
@pytest.mark.parametrize("splits", [1, 5])
def test_another_implementation_finds_the_same(splits: int) -> None:
    p = softmax(0)
    theirs = InceptionScore(feature=nn.Identity(), splits=splits)
    theirs.update(torch.from_numpy(np.log(p)))  # it takes logits
    torch.manual_seed(1)
    mean, _ = theirs.compute()
    torch.manual_seed(1)
    order = torch.randperm(len(p)).numpy()  # in which it splits
    assert class_score(p[order], splits).mean == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.parametrize(
    ("p", "splits", "message"),
    [
        (np.array([[2.0, -1.0], [0.5, 0.5]]), 1, "row 0 sums to 1 with a smallest value of -1"),
        (np.array([[0.5, 0.5], [3.0, 1.0]]), 1, "row 1 sums to 4"),
        (np.array([[0.5, 0.5], [np.nan, 1.0]]), 1, "row 1 sums to nan"),
        (np.ones(4), 1, r"shape \(4,\)"),
        (one_hot(2, 2), 5, "4 images are too few for 5 splits"),
        (one_hot(2, 2), 0, "0 splits"),
    ],
)
def test_what_is_no_probability_is_refused(p: np.ndarray, splits: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        class_score(p, splits)
