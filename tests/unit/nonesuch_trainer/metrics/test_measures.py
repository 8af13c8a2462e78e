"""What cannot be taken says so, and the rest is taken: for any number of images, of any size, seen by any network."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nonesuch_trainer.metrics.features import Seen
from nonesuch_trainer.metrics.measures import BY_FEATURES, UNKNOWN, Measures, View, measure, over_classes
from nonesuch_trainer.sources.real import balanced_rows, most_balanced

NAMES = ("bird", "cat", "dog")
NUMBERS = ("fid", "kid", "precision", "recall", "density", "coverage", "score")
BY_CLASS = ("agreement", "ms_ssim", "discriminability")


def see(images: NDArray[np.uint8]) -> Seen:
    """Four features, and the class by which of three columns of pixels is the brightest."""
    thirds = np.stack([part.mean(axis=(1, 2, 3)) for part in np.array_split(images / 255.0, 3, axis=2)], axis=1)
    odds = np.exp(20 * (thirds - thirds.max(axis=1, keepdims=True)))
    return Seen(np.column_stack([thirds, thirds.std(axis=1)]), odds / odds.sum(axis=1, keepdims=True))


def blinded(images: NDArray[np.uint8]) -> Seen:
    """A network whose activations overflow."""
    seen = see(images)
    return Seen(np.full_like(seen.features, np.nan), np.full_like(seen.probabilities, np.nan))


def pictures(counts: tuple[int, ...], side: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.random.default_rng(seed).integers(0, 90, (len(labels), side, side, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        np.array_split(image, 3, axis=1)[label][:] += 120
    return images, labels


def measured(
    counts: tuple[int, ...], side: int, network: Callable[[NDArray[np.uint8]], Seen] | None = see, real: int = 60
) -> Measures:
    view = None if network is None else View(network, see(pictures((real, 0, 0), side, 1)[0]))
    return measure(*pictures(counts, side), view, class_names=NAMES)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.tuples(*[st.integers(0, 12)] * 3).filter(any),
    side=st.integers(6, 24),
    network=st.sampled_from((see, blinded, None)),
    real=st.integers(1, 12),
)
def test_every_measure_is_there_or_says_why_and_is_strict_json(
    counts: tuple[int, ...],
    side: int,
    network: Callable[[NDArray[np.uint8]], Seen] | None,
    real: int,
) -> None:
    found = measured(counts, side, network, real)
    assert found.images == sum(counts)
    for name in NUMBERS:
        value = getattr(found, name)
        assert (value is None) == (name in found.missing)
        assert value is None or np.isfinite(value)
    for name in BY_CLASS:
        assert getattr(found, name) or name in found.missing
    assert set(found.ms_ssim) == ({k for k, n in enumerate(counts) if n > 1} if side >= 20 else set())
    assert "scales =" not in str(found.missing) and "splits =" not in str(found.missing)
    document = json.loads(json.dumps(found.document(NAMES), allow_nan=False))
    assert document["missing"] == dict(found.missing)


@pytest.mark.parametrize(
    ("counts", "side", "network", "missing", "why"),
    [
        ((30, 30, 30), 20, see, (), ""),
        ((30, 30, 30), 16, see, ("ms_ssim",), "16 pixels are too small for its three scales, which take 20"),
        ((30, 30, 1), 20, see, ("ms_ssim",), "a single image, so no pair, of dog"),
        ((5, 4, 0), 20, see, ("score",), "9 images are too few for 10 splits"),
        ((30, 30, 30), 20, None, BY_FEATURES, UNKNOWN),
    ],
)
def test_the_cause_is_named_and_the_rest_is_taken(
    counts: tuple[int, ...],
    side: int,
    network: Callable[[NDArray[np.uint8]], Seen] | None,
    missing: tuple[str, ...],
    why: str,
) -> None:
    found = measured(counts, side, network)
    assert set(found.missing) == set(missing)
    assert all(why in text for text in found.missing.values())


def test_a_single_image_has_an_agreement() -> None:
    found = measured((0, 1, 0), 20)
    assert found.agreement == {1: 1.0} and found.fid is None
    assert over_classes(found.ms_ssim) is None


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_as_many_as_are_said_to_be_there_can_be_drawn_in_balance(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    rows = balanced_rows(labels, most_balanced(labels), np.random.default_rng(0))
    assert set(np.bincount(labels[rows]).tolist()) == {min(counts)}
