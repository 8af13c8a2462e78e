"""Reading IDX files, the declared validation split, and what is said when the data is not there."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.realdata.fashion_mnist import (
    FASHION_MNIST_CLASSES,
    RealImages,
    find_fashion_mnist,
    load_fashion_mnist,
    read_idx,
    validation_rows,
)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for Fashion-MNIST: as many images of each class, each marked with its row in three pixels."""
    path = tmp_path_factory.mktemp("fashion-mnist")
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        rows = np.arange(count)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = rows >> 16, (rows >> 8) & 255, rows & 255
        (path / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        labels = gzip.compress(idx_bytes((rows % 10).astype(np.uint8)), compresslevel=1)
        (path / f"{name}-labels-idx1-ubyte.gz").write_bytes(labels)
    return path


def rows_of(real: RealImages) -> set[int]:
    mark = real.images[:, 0, :3, 0].astype(int)
    return set((mark @ [1 << 16, 1 << 8, 1]).tolist())


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path: Path, pack: type[bytes]) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(pack(idx_bytes(array)))
    assert np.array_equal(read_idx(tmp_path / "file"), array)
    assert read_idx(tmp_path / "file").flags.writeable


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "holds 23"),
        (lambda data: data + b"!", "holds 25"),
        (lambda data: b"\x00\x00\x0d" + data[3:], "not an IDX file"),
        (lambda data: data[:10], "not an IDX file"),
        (lambda data: b"", "not an IDX file"),
        (lambda data: gzip.compress(data)[:-9], "damaged gzip"),
        (lambda data: gzip.compress(data)[:15] + b"~~~~" + gzip.compress(data)[19:], "damaged gzip"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    assert callable(damage)
    (tmp_path / "file").write_bytes(damage(idx_bytes(np.zeros((2, 3, 4), np.uint8))))
    with pytest.raises(IntegrityError, match=message):
        read_idx(tmp_path / "file")


def test_splits_are_disjoint_balanced_and_fixed(folder: Path) -> None:
    train, validation, test = (load_fashion_mnist(split, folder) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (55_000, 5_000, 10_000)
    assert rows_of(train).isdisjoint(rows_of(validation))
    assert rows_of(train) | rows_of(validation) == set(range(60_000))
    assert np.bincount(validation.labels).tolist() == [500] * 10
    assert np.array_equal(validation.images, load_fashion_mnist("validation", folder).images)
    assert train.images.shape == (55_000, 28, 28, 1)
    assert train.labels.dtype == np.int32
    assert train.class_names == FASHION_MNIST_CLASSES
    assert train.name == "fashion-mnist/train"


def test_the_declared_split_has_not_moved() -> None:
    """These rows are unseen by every published weight: another numpy must draw the same ones."""
    labels = (np.arange(60_000) % 10).astype(np.uint8)
    assert validation_rows(labels)[:5].tolist() == [30, 38, 43, 49, 50]


def test_too_few_images_for_a_split() -> None:
    with pytest.raises(IntegrityError, match="class 0 has 500"):
        validation_rows((np.arange(5_000) % 10).astype(np.uint8))


def test_missing_data_names_place_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataNotFound, match=r"train-images-idx3-ubyte.*dataset-fashion-mnist.*--data FOLDER"):
        find_fashion_mnist(tmp_path)
    monkeypatch.setenv("NONESUCH_FASHION_MNIST", str(tmp_path / "elsewhere"))
    with pytest.raises(DataNotFound, match=r"elsewhere \(\$NONESUCH_FASHION_MNIST\)"):
        find_fashion_mnist()
    with pytest.raises(DataNotFound, match="cannot read"):
        read_idx(tmp_path / "none")


def test_the_folder_given_wins_over_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONESUCH_FASHION_MNIST", str(folder))
    assert find_fashion_mnist() == folder
    with pytest.raises(DataNotFound):
        find_fashion_mnist(folder / "none")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int32)),
        (np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2], np.int32)),
    ],
)
def test_real_images_refuse_what_does_not_fit(images: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
    with pytest.raises(InvalidValue, match="two of two"):
        RealImages(images, labels, ("a", "b"), "two of two")


def test_import_is_light() -> None:
    code = "import sys, nonesuch.realdata.fashion_mnist; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
