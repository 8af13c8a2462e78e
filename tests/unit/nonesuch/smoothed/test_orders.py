"""The classes of the images that are fresh in each epoch: even within an epoch, and over many of them."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nonesuch.labels import Quota
from nonesuch.offers import GeneratorInfo
from nonesuch.orders import Order, SnapshotRef
from nonesuch.smoothed.orders import DatasetOrders, Part

EPOCHS = 120


def orders_of(classes: int, seed: int = 0) -> DatasetOrders:
    names = tuple(map(str, range(classes)))
    info = GeneratorInfo(id="g", family="x", sha256="0" * 64, image_shape=(8, 8, 1), class_names=names, z_dim=4)
    return DatasetOrders([info], range(classes), seed=seed)


def counts_of(placed: tuple[Order, ...], classes: int) -> NDArray[np.int64]:
    """(parts, K) images of each class, by order."""
    return np.array([np.bincount(o.labels.of(np.arange(o.count)), minlength=classes) for o in placed])


def fresh(orders: DatasetOrders, birth: int, parts: list[int], **how: object) -> tuple[Order, ...]:
    aim = SnapshotRef(channel="c", version=1)
    wanted = [Part(count, "hsm", {}, aimed=True) for count in parts]
    return orders.of(birth, wanted, name="o", sink="s", aim=aim, **how)  # type: ignore[arg-type]


@given(
    size=st.integers(1, 500),
    r=st.floats(0.01, 1),
    classes=st.integers(1, 60),
    shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=3),
    seed=st.integers(0, 2**62),
)
@example(size=100, r=0.1, classes=10, shares=[0.5, 0.5], seed=0)
@example(size=50, r=0.1, classes=10, shares=[0.5, 0.5], seed=0)
@example(size=101, r=0.333, classes=10, shares=[0.5, 0.5], seed=0)
@example(size=1000, r=0.05, classes=100, shares=[0.5, 0.5], seed=0)
@settings(max_examples=25, deadline=None)
def test_every_class_is_fresh_and_mined_as_often_as_any_other(
    size: int, r: float, classes: int, shares: list[float], seed: int
) -> None:
    total = max(round(r * size), len(shares))
    parts = [max(1, int(total * share / sum(shares))) for share in shares]
    orders = orders_of(classes, seed)
    over_epochs = np.zeros((len(parts), classes), np.int64)
    for birth in range(1, EPOCHS + 1):
        counts = counts_of(fresh(orders, birth, parts), classes)
        assert counts.sum(axis=1).tolist() == parts
        assert (np.ptp(counts, axis=1) <= 1).all() and np.ptp(counts.sum(axis=0)) <= 1
        over_epochs += counts
    for count, found in zip([*parts, sum(parts)], [*over_epochs, over_epochs.sum(axis=0)], strict=True):
        share = count % classes / classes  # the odds of a class to have the image more
        spread = sqrt(EPOCHS * share * (1 - share))
        assert np.abs(found - EPOCHS * count / classes).max() <= 6 * spread + 1e-9


def test_the_draw_is_a_function_of_seed_and_epoch() -> None:
    def labels(seed: int, birth: int) -> list[int]:
        (order,) = fresh(orders_of(10, seed), birth, [5])
        return order.labels.of(np.arange(5)).tolist()  # type: ignore[no-any-return]

    assert labels(1, 7) == labels(1, 7)
    assert labels(1, 7) != labels(1, 8) and labels(1, 7) != labels(2, 7)


@given(classes=st.integers(1, 12), step=st.integers(1, 30), share=st.integers(0, 30), seed=st.integers(0, 2**62))
@settings(max_examples=60, deadline=None)
def test_a_dataset_that_grows_is_balanced_after_every_step(classes: int, step: int, share: int, seed: int) -> None:
    orders, mined = orders_of(classes, seed), min(share, step)
    there = np.zeros(classes, np.int64)
    for birth in range(6):
        counts = counts_of(fresh(orders, birth, [mined, step - mined], before=birth * step), classes)
        assert (np.ptp(counts, axis=1) <= 1).all()
        there += counts.sum(axis=0)
        assert there.sum() == (birth + 1) * step and np.ptp(there) <= 1


def test_a_dataset_that_grows_mines_every_class() -> None:
    orders, mined = orders_of(10), np.zeros(10, np.int64)
    for birth in range(1, EPOCHS):
        mined += counts_of(fresh(orders, birth, [5, 5], before=10 * birth), 10)[0]
    assert mined.min() > 0.6 * mined.mean()


@pytest.mark.parametrize("each", [1, 3])
def test_quotas_of_equal_classes_are_split_without_favour(each: int) -> None:
    orders, mined = orders_of(10), np.zeros(10, np.int64)
    quota = Quota(counts=dict.fromkeys(range(10), each))
    for birth in range(1, EPOCHS + 1):
        counts = counts_of(fresh(orders, birth, [5 * each, 5 * each], quota=quota), 10)
        assert (counts.sum(axis=0) == each).all()
        mined += counts[0]
    assert mined.min() > 0.6 * mined.mean()
