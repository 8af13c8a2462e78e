"""The laws of the resident dataset: exactly as many rows go as come, class by class, and the rest stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nonesuch.errors import InvalidValue
from nonesuch.seeds import numpy_rng
from nonesuch.smoothed.resident import PERMANENT, LabelledImages, ResidentDataset

CPU = torch.device("cpu")


def some(n: int, classes: int, *, seed: int, brightness: int = 0) -> LabelledImages:
    """Images as a balanced order brings them: index i is of class i modulo the number of classes."""
    indices = np.arange(n)
    images = np.broadcast_to((indices % 100 + brightness).astype(np.uint8)[:, None, None, None], (n, 2, 2, 1))
    return LabelledImages(
        images.copy(), (indices % classes).astype(np.int32), np.full(n, seed), indices, np.full(n, seed % 3 - 1)
    )


def resident(n: int, classes: int) -> ResidentDataset:
    return ResidentDataset.of(some(n, classes, seed=1), CPU)


@given(
    n=st.integers(2, 60),
    classes=st.integers(1, 7),
    r=st.floats(0, 1),
    rounds=st.integers(1, 3),
    victims=st.sampled_from(["random", "oldest"]),
)
@settings(max_examples=150, deadline=None)
def test_replacement_is_exact_and_keeps_the_balance(n: int, classes: int, r: float, rounds: int, victims: str) -> None:
    dataset = resident(n, classes)
    balance = torch.bincount(dataset.labels, minlength=classes)
    for birth in range(1, rounds + 1):
        columns = ("images", "labels", "births", "seeds", "indices", "snapshots")
        before = {name: getattr(dataset, name).clone() for name in columns}
        fresh = some(round(r * n), classes, seed=100 + birth, brightness=100)
        rows = dataset.replace(fresh, birth=birth, victims=victims, rng=numpy_rng(0, "victims", birth))  # type: ignore[arg-type]

        assert len(rows) == len(set(rows.tolist())) == len(fresh)
        assert int((dataset.births == birth).sum()) == len(fresh)
        assert torch.equal(dataset.labels, before["labels"])
        assert torch.equal(torch.bincount(dataset.labels, minlength=classes), balance)
        assert np.array_equal(dataset.labels[rows], fresh.labels)
        assert np.array_equal(dataset.images[rows], fresh.images)
        assert np.array_equal(dataset.indices[rows], fresh.indices)
        assert np.array_equal(dataset.snapshots[rows], fresh.snapshots)
        assert (dataset.seeds[rows] == 100 + birth).all()
        survivors = np.setdiff1d(np.arange(n), rows)
        for name, values in before.items():
            assert torch.equal(getattr(dataset, name)[survivors], values[survivors])


@given(n=st.integers(4, 40), classes=st.integers(1, 4), k=st.integers(1, 40))
@settings(deadline=None)
def test_oldest_first_takes_no_row_that_is_younger_than_a_survivor(n: int, classes: int, k: int) -> None:
    dataset = resident(n, classes)
    for birth in (1, 2, 3):
        ages = dataset.births.clone()
        fresh = some(min(k, n), classes, seed=birth)
        rows = dataset.replace(fresh, birth=birth, victims="oldest", rng=numpy_rng(0, "victims", birth))
        for label in range(classes):
            of_class = np.flatnonzero(dataset.labels == label)
            gone, kept = np.intersect1d(of_class, rows), np.setdiff1d(of_class, rows)
            assert not len(gone) or not len(kept) or ages[gone].max() <= ages[kept].min()


def test_replacement_is_a_function_of_its_key() -> None:
    def replaced(*where: int) -> list[int]:
        rng = numpy_rng(5, "victims", *where)
        rows = resident(40, 4).replace(some(20, 4, seed=2), birth=1, victims="random", rng=rng)
        return rows.tolist()  # type: ignore[no-any-return]

    assert replaced(3) == replaced(3)
    assert replaced(3) != replaced(4)


def test_everything_can_be_replaced_and_nothing_can() -> None:
    dataset = resident(10, 3)
    assert len(dataset.replace(some(0, 3, seed=2), birth=1, victims="random", rng=numpy_rng(0, "victims"))) == 0
    dataset.replace(some(10, 3, seed=3), birth=2, victims="random", rng=numpy_rng(0, "victims"))
    assert (dataset.seeds == 3).all()


@given(
    have=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 1),
    victims=st.sampled_from(["random", "oldest"]),
    data=st.data(),
)
@settings(deadline=None)
def test_more_of_a_class_than_there_are_take_the_rows_of_the_largest_classes(
    have: list[int], victims: str, data: st.DataObject
) -> None:
    dataset = ResidentDataset.of(labelled([k for k, n in enumerate(have) for _ in range(n)], seed=1), CPU)
    fresh = labelled(data.draw(st.lists(st.integers(0, len(have)), max_size=sum(have))), seed=2)
    before = np.bincount(dataset.labels, minlength=len(have) + 1)
    want = np.bincount(fresh.labels, minlength=len(have) + 1)
    rows = dataset.replace(fresh, birth=1, victims=victims, rng=numpy_rng(0, "victims"))  # type: ignore[arg-type]

    assert len(set(rows.tolist())) == len(fresh) and np.array_equal(dataset.labels[rows], fresh.labels)
    grown = np.maximum(want, before)  # what each class would have if the dataset could grow
    after = np.bincount(dataset.labels, minlength=len(have) + 1)
    assert (after >= np.minimum(want, grown)).all() and (after <= grown).all()
    gave = after < grown
    could = (after > want) & (before > want)  # classes with a row left that is not fresh
    assert not gave.any() or not could.any() or after[could].max() <= grown[gave].min()
    assert not gave.any() or not could.any() or after[could].max() - after[gave & could].min(initial=99) <= 1


def labelled(labels: list[int], *, seed: int) -> LabelledImages:
    """Images with the labels that are given."""
    return replace(some(len(labels), 1, seed=seed), labels=np.array(labels, np.int32))


@given(
    real=st.integers(1, 20),
    minted=st.integers(1, 20),
    r=st.floats(0, 1),
    victims=st.sampled_from(["random", "oldest"]),
    keep_balance=st.booleans(),
)
@settings(deadline=None)
def test_permanent_rows_stay(real: int, minted: int, r: float, victims: str, keep_balance: bool) -> None:
    dataset = ResidentDataset.of(some(real, 2, seed=0), CPU, birth=PERMANENT).extended(some(minted, 2, seed=1), birth=0)
    before = dataset.images[:real].clone()
    assert (len(dataset), dataset.replaceable) == (real + minted, minted)
    for birth in (1, 2):
        fresh = some(round(r * minted), 2, seed=9, brightness=100)
        rng = numpy_rng(0, "victims", birth)
        rows = dataset.replace(fresh, birth=birth, victims=victims, rng=rng, keep_balance=keep_balance)  # type: ignore[arg-type]
        assert (rows >= real).all()
        assert int((dataset.births == birth).sum()) == len(fresh)
    assert torch.equal(dataset.images[:real], before)
    assert (dataset.births[:real] == PERMANENT).all() and (dataset.seeds[:real] == 0).all()
    assert dataset.replaceable == minted


def test_regardless_of_class_the_dataset_drifts_to_what_comes() -> None:
    dataset = resident(60, 3)
    fresh = some(30, 1, seed=2)  # all of class 0
    rows = dataset.replace(fresh, birth=1, victims="random", rng=numpy_rng(0, "victims"), keep_balance=False)
    assert len(set(rows.tolist())) == 30
    assert (dataset.labels[rows] == 0).all()
    assert len(dataset) == 60
    assert dataset.shares[0] > 0.5
    assert sum(dataset.shares.values()) == pytest.approx(1)
    with pytest.raises(InvalidValue, match="61 fresh images cannot replace the 60"):
        dataset.replace(some(61, 3, seed=2), birth=2, victims="oldest", rng=numpy_rng(0, "victims"), keep_balance=False)


def test_regardless_of_class_the_oldest_go_first() -> None:
    dataset = resident(12, 3)
    for birth in (1, 2, 3):
        dataset.replace(
            some(4, 1, seed=2), birth=birth, victims="oldest", rng=numpy_rng(0, "victims", birth), keep_balance=False
        )
    assert sorted(dataset.births.tolist()) == [1] * 4 + [2] * 4 + [3] * 4


def soft(images: LabelledImages, value: float) -> LabelledImages:
    return replace(images, soft=np.full((len(images), 3), value, np.float16))


def test_soft_labels_go_with_their_rows() -> None:
    dataset = ResidentDataset.of(soft(some(6, 3, seed=1), 0.25), CPU)
    rows = dataset.replace(soft(some(3, 3, seed=2), 0.5), birth=1, victims="random", rng=numpy_rng(0, "victims"))
    assert dataset.soft is not None
    assert dataset.soft.dtype == torch.float16
    kept = np.setdiff1d(np.arange(6), rows)
    assert (dataset.soft[rows] == 0.5).all() and (dataset.soft[kept] == 0.25).all()


@pytest.mark.parametrize("soft_first", [True, False])
def test_beside_soft_labels_hard_ones_are_certain(soft_first: bool) -> None:
    hard, uncertain = some(2, 3, seed=1), soft(some(2, 3, seed=2), 0.25)
    one, two = (uncertain, hard) if soft_first else (hard, uncertain)
    dataset = ResidentDataset.of(one, CPU).extended(two, birth=4)
    assert dataset.soft is not None
    certain = dataset.soft[dataset.seeds == 1]
    assert certain.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (dataset.soft[dataset.seeds == 2] == 0.25).all()
    assert dataset.births.tolist() == [0, 0, 4, 4]
    assert ResidentDataset.of(hard, CPU).extended(hard, birth=1).soft is None


@pytest.mark.parametrize(("n", "batch", "steps"), [(10, 4, 3), (8, 4, 2), (9, 4, 2), (3, 8, 1)])
def test_an_epoch_shows_every_row_once(n: int, batch: int, steps: int) -> None:
    dataset = resident(n, 2)
    batches = list(dataset.batches(3, seed=0, batch_size=batch))
    rows = torch.cat(batches)
    assert len(batches) == dataset.steps(batch) == steps
    assert len(rows) == n - (n % batch == 1)  # a single row left over is left out
    assert len(rows.unique()) == len(rows)


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    def rows(epoch: int, seed: int) -> list[int]:
        return torch.cat(list(resident(30, 3).batches(epoch, seed, 8))).tolist()

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(2, 0)
    assert rows(1, 0) != rows(1, 1)
