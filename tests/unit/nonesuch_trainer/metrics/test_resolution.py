"""Discriminability by resolution: the reduction itself, and a set of images whose curve is known."""

import numpy as np
import pytest
from PIL import Image

from nonesuch.errors import InvalidValue
from nonesuch_trainer.metrics.resolution import discriminability, halvings, reduced

SIZE = 32


def stripes(period: int, horizontal: bool) -> np.ndarray:
    """(SIZE, SIZE, 1) uint8: bands, each half a period wide."""
    bands = np.where(np.arange(SIZE) % period < period // 2, 254, 0).astype(np.uint8)
    image = np.tile(bands, (SIZE, 1))
    return (image.T if horizontal else image)[:, :, None]


def direction(images: np.ndarray) -> np.ndarray:
    """1 where rows differ: the stripes are horizontal. 0 where columns differ, or nothing."""
    middle = images[:, 12:20, 12:20].astype(np.float64)  # the edge is filtered by fewer pixels
    return (middle.mean(axis=2).std(axis=(1, 2)) > 1).astype(np.int64)


def striped() -> tuple[np.ndarray, np.ndarray]:
    """As many images of each period as of each direction."""
    kinds = [(period, horizontal) for period in (2, 4, 8, 16) for horizontal in (False, True)] * 3
    return np.stack([stripes(*kind) for kind in kinds]), np.array([int(horizontal) for _, horizontal in kinds])


@pytest.mark.parametrize(
    ("full", "sizes"),
    [(28, [28, 14, 7, 4]), (32, [32, 16, 8, 4]), (100, [100, 50, 25, 13, 7, 4]), (9, [9, 5]), (4, [4]), (1, [1])],
)
def test_sizes_are_halved_down_to_4(full: int, sizes: list[int]) -> None:
    assert halvings(full) == sizes


def test_finer_stripes_are_lost_first() -> None:
    found = discriminability(*striped(), direction)
    assert list(found) == [32, 16, 8, 4]
    # a pixel of each size averages one more period away; where nothing is left the answer is 0, right for half
    assert list(found.values()) == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8])


def test_what_is_coarse_is_told_apart_at_every_size() -> None:
    images = np.stack([np.full((SIZE, SIZE, 3), value, np.uint8) for value in (10, 200)])
    found = discriminability(images, np.array([0, 1]), lambda x: (x.mean(axis=(1, 2, 3)) > 100).astype(int))
    assert set(found.values()) == {1.0}


def test_the_full_size_leaves_images_as_they_are() -> None:
    images, labels = striped()
    seen: list[np.ndarray] = []

    def keep(some: np.ndarray) -> np.ndarray:
        seen.append(some)
        return np.zeros(len(some), int)

    assert discriminability(images, labels, keep, [32]) == {32: 0.5}
    assert np.array_equal(np.concatenate(seen), images)


@pytest.mark.parametrize("size", [23, 14, 7, 1])
@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (28, 42, 3)])
def test_another_implementation_reduces_alike(size: int, height: int, width: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    small = (round(width * size / 28), size)

    def theirs(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        # of floats: of uint8 it rounds between rows and columns too
        resized = Image.fromarray(plane.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        return np.asarray(resized).round()

    planes = images.transpose(0, 3, 1, 2).reshape(-1, height, width)
    expected = np.stack([theirs(theirs(plane, small), (width, height)) for plane in planes])
    found = reduced(images, size)
    assert found.dtype == np.uint8
    difference = np.abs(found.transpose(0, 3, 1, 2).reshape(-1, height, width) - expected)
    assert difference.max() <= 1  # halves are rounded up or down, as the last bit of a float has it
    assert difference.mean() < 0.05


def test_images_may_be_read_only_and_come_in_batches() -> None:
    images, labels = (np.concatenate([part] * 25) for part in striped())  # 600
    images.flags.writeable = False
    batches: list[int] = []

    def count(some: np.ndarray) -> np.ndarray:
        batches.append(len(some))
        return direction(some)

    assert discriminability(images, labels, count, [16, 32, 16]) == pytest.approx({32: 1, 16: 7 / 8})
    assert batches == [500, 100, 500, 100]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [([64, 32], r"sizes \[64\] of images of 32 pixels"), ([0], r"sizes \[0\]"), ([], r"sizes \[\]")],
)
def test_impossible_sizes_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        discriminability(*striped(), direction, sizes)


def test_labels_and_answers_must_be_one_for_each_image() -> None:
    images, labels = striped()
    with pytest.raises(InvalidValue, match=r"24 images and labels of shape \(20,\)"):
        discriminability(images, labels[:20], direction)
    with pytest.raises(InvalidValue, match=r"classify gave \(24, 2\) for 24 images"):
        discriminability(images, labels, lambda x: np.zeros((len(x), 2), int))
