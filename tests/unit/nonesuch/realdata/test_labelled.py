"""Labelled real images: every kind of source gives the same ones, splits are disjoint and fixed, damage has a name."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.realdata import labelled
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES, RealImages
from nonesuch.realdata.labelled import read_labelled
from nonesuch.schema import batch_schema

SHAPE = (6, 8, 3)
N, NAMES = 36, ("ant", "bee", "cat")
IMAGES = np.random.default_rng(0).integers(0, 256, (N, *SHAPE), np.uint8)
LABELS = np.repeat(np.arange(3), 12)
"""Sorted, as class folders give them."""


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, kind)
    return file.getvalue()


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, prefix: str, rows: slice, pack: Callable[[bytes], bytes] = bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    end = "" if pack is bytes else ".gz"
    (folder / f"{prefix}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(IMAGES[rows])))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[rows].astype(np.uint8)))


def write_folders(folder: Path, rows: slice = slice(None)) -> None:
    for i in range(N)[rows]:
        path = folder / NAMES[LABELS[i]] / (f"{i:02d}/deeper.png" if i % 2 else f"{i:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(IMAGES[i]))


def write_parquet(path: Path, images: pa.Array, labels: pa.Array, metadata: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=5)


def hugging_face(names: tuple[str, ...] = NAMES) -> dict[str, str]:
    """The metadata that the library `datasets` writes."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def structs(rows: slice = slice(None)) -> pa.Array:
    return pa.array([{"bytes": encoded(image), "path": "x.png"} for image in IMAGES[rows]])


def as_class_folders(path: Path) -> None:
    write_folders(path)
    (path / ".cache").mkdir()
    (path / "preview.png").write_bytes(encoded(IMAGES[0]))


def as_idx_folder(path: Path) -> None:
    write_idx(path, "train", slice(None), gzip.compress)
    (path / "class_names.json").write_text(json.dumps(NAMES))


def as_export(path: Path) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(IMAGES.reshape(-1)), int(np.prod(SHAPE)))
    images = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), SHAPE), flat)
    metadata = batch_schema(SHAPE, NAMES).metadata
    write_parquet(path, images, pa.array(LABELS, pa.int32()), {k.decode(): v.decode() for k, v in metadata.items()})


def as_hugging_face(path: Path) -> None:
    for i in range(3):
        rows = slice(12 * i, 12 * i + 12)
        write_parquet(
            path / "data" / f"train-{i:05d}-of-00003.parquet", structs(rows), pa.array(LABELS[rows]), hugging_face()
        )


def as_parquet_of_strings(path: Path) -> None:
    images = pa.array([encoded(image, "BMP") for image in IMAGES])
    write_parquet(path, images, pa.array([NAMES[label] for label in LABELS]).dictionary_encode())


def as_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, images=IMAGES, labels=LABELS[:, None], class_names=np.array(NAMES))


def as_npz_of_strings(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x_train=IMAGES, y_train=np.array(NAMES)[LABELS])


SOURCES = [
    as_class_folders, as_idx_folder, as_export, as_hugging_face, as_parquet_of_strings, as_npz, as_npz_of_strings,
]  # fmt: skip


def rows_of(real: RealImages) -> list[int]:
    return [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in real.images]


@pytest.mark.parametrize("write", SOURCES)
def test_every_source_gives_the_same_splits(write: Callable[[Path], None], tmp_path: Path) -> None:
    source = tmp_path / "source"
    write(source)
    told: list[int] = []
    train = read_labelled(str(source), "train", on_images=told.append)
    validation = read_labelled(str(source), "validation", image_shape=SHAPE)
    assert (len(train), len(validation), sum(told)) == (33, 3, 33)
    for real, split in ((train, "train"), (validation, "validation")):
        assert real.class_names == NAMES
        assert real.name == f"source/{split}"
        assert real.images.shape[1:] == SHAPE
        assert real.labels.tolist() == LABELS[rows_of(real)].tolist()
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(N))
    assert rows_of(train) == sorted(rows_of(train))
    assert rows_of(validation) == [7, 13, 25]  # declared: a change of these would leak validation images into training
    with pytest.raises(DataNotFound, match=r"source has no test split, only train"):
        read_labelled(str(source), "test")


def test_as_many_are_cut_of_each_class_as_are_asked(tmp_path: Path) -> None:
    as_npz(tmp_path / "source")
    train, validation = (
        read_labelled(str(tmp_path / "source"), split, validation_per_class=5) for split in ("train", "validation")
    )
    assert np.bincount(train.labels).tolist() == [7, 7, 7]
    assert np.bincount(validation.labels).tolist() == [5, 5, 5]
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(N))
    assert rows_of(validation) == rows_of(read_labelled(str(tmp_path / "source"), "validation", validation_per_class=5))
    with pytest.raises(InvalidValue, match="class 'ant' has 12 images, of which 12 would be cut"):
        read_labelled(str(tmp_path / "source"), validation_per_class=12)
    with pytest.raises(InvalidValue, match="0 images of each class are no validation split"):
        read_labelled(str(tmp_path / "source"), validation_per_class=0)


def splits_of_folders(path: Path) -> None:
    for name, rows in (("train", slice(0, N, 2)), ("val", slice(1, N, 4)), ("test", slice(3, N, 4))):
        write_folders(path / name, rows)
    (path / "annotations").mkdir()


def splits_of_shards(path: Path) -> None:
    for name, rows in (("train", slice(0, N, 2)), ("validation", slice(1, N, 4)), ("test", slice(3, N, 4))):
        for i, half in enumerate((slice(0, 5), slice(5, None))):
            file = path / f"{name}-{i:05d}-of-00002-0a1b2c.parquet"
            write_parquet(file, structs(rows)[half], pa.array(LABELS[rows])[half], hugging_face())


def splits_of_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(
            file, x_train=IMAGES[::2], y_train=LABELS[::2].astype(np.uint8), x_val=IMAGES[1::4], y_val=LABELS[1::4],
            x_test=IMAGES[3::4], y_test=LABELS[3::4], class_names=np.array(NAMES),
        )  # fmt: skip


@pytest.mark.parametrize("write", [splits_of_folders, splits_of_shards, splits_of_npz])
def test_splits_that_are_there_are_taken_whole(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "source")
    for split, rows in (("train", slice(0, N, 2)), ("validation", slice(1, N, 4)), ("test", slice(3, N, 4))):
        real = read_labelled(str(tmp_path / "source"), split)  # type: ignore[arg-type]
        assert np.array_equal(real.images, IMAGES[rows])
        assert np.array_equal(real.labels, LABELS[rows])
        assert real.class_names == NAMES
        assert real.name in (f"source/{split}", f"source/{split} (val)")
    with pytest.raises(InvalidValue, match="a validation split of its own, so 2 images of each class are not cut"):
        read_labelled(str(tmp_path / "source"), validation_per_class=2)


def test_mnist_has_a_test_split_and_numbers_for_names(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", slice(0, N, 2))
    write_idx(tmp_path, "t10k", slice(1, N, 2), gzip.compress)
    test = read_labelled(str(tmp_path), "test")
    assert np.array_equal(test.images, IMAGES[1::2]) and np.array_equal(test.labels, LABELS[1::2])
    assert test.class_names == ("0", "1", "2")
    train, validation = (read_labelled(str(tmp_path), split) for split in ("train", "validation"))
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(0, N, 2))


def test_an_idx_file_finds_its_labels(tmp_path: Path) -> None:
    write_idx(tmp_path, "letters", slice(None), gzip.compress)
    source = str(tmp_path / "letters-images-idx3-ubyte.gz")
    assert len(read_labelled(source)) + len(read_labelled(source, "validation")) == N
    (tmp_path / "letters-labels-idx1-ubyte").rename(tmp_path / "x")
    with pytest.raises(DataNotFound, match=r"has no labels: put letters-labels-idx1-ubyte \(\.gz or not\) beside it"):
        read_labelled(source)
    with pytest.raises(InvalidValue, match="may hold images or labels: name both files like"):
        read_labelled(str(tmp_path / "x"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for i, name in enumerate(("car", "train", "tram")):
        for row in range(2):
            path = tmp_path / name / f"{row}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded(IMAGES[2 * i + row]))
    assert read_labelled(str(tmp_path)).class_names == ("car", "train", "tram")


def test_folders_of_both_splits_need_not_have_a_third(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", slice(0, N, 2))
    write_folders(tmp_path / "test", slice(1, N, 2))
    train, validation = (read_labelled(str(tmp_path), split) for split in ("train", "validation"))
    assert sorted(rows_of(train) + rows_of(validation)) == list(range(0, N, 2))
    assert rows_of(read_labelled(str(tmp_path), "test")) == list(range(1, N, 2))
    (tmp_path / "train").rename(tmp_path / "valid")
    with pytest.raises(DataNotFound, match="has no train split, only test and validation"):
        read_labelled(str(tmp_path))
    assert rows_of(read_labelled(str(tmp_path), "validation")) == list(range(0, N, 2))


def test_images_are_scaled_to_what_is_asked(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[..., 2] = 255
    wide[:, 18:42] = (255, 0, 0)
    (tmp_path / "red").mkdir()
    for i, image in enumerate((wide, wide.transpose(1, 0, 2), wide[:, 20:40])):
        (tmp_path / "red" / f"{i}.png").write_bytes(encoded(image))
    real = read_labelled(str(tmp_path), image_shape=(16, 16, 3))
    assert real.images.shape == (2, 16, 16, 3) and (real.images == (255, 0, 0)).all()
    assert (read_labelled(str(tmp_path), image_shape=(8, 8, 1)).images == 76).all()
    with pytest.raises(
        InvalidValue, match=r"/\d\.png is \d+×\d+ in colours, but .*/\d\.png is \d+×\d+ in colours: set image_shape"
    ):
        read_labelled(str(tmp_path), validation_per_class=1)
    with pytest.raises(InvalidValue, match=r"images of \(8, 8, 2\) cannot be read"):
        read_labelled(str(tmp_path), image_shape=(8, 8, 2))


def test_grey_among_colours_is_another_shape(tmp_path: Path) -> None:
    for i, image in enumerate((IMAGES[0], IMAGES[1, ..., 0], IMAGES[2, ..., 0], IMAGES[3])):
        path = tmp_path / "data" / "ant" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(image))
    with pytest.raises(InvalidValue, match=r"6×8 in (grey|colours), but .* is 6×8 in (grey|colours)"):
        read_labelled(str(tmp_path / "data"))
    assert read_labelled(str(tmp_path / "data"), image_shape=(6, 8, 1)).images.shape == (3, 6, 8, 1)


def test_fashion_mnist_keeps_its_declared_splits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (20, 28, 28, 1), np.uint8)

    def load(split: str, folder: Path | None) -> RealImages:
        assert folder == tmp_path
        return RealImages(images, np.arange(20, dtype=np.int32) % 10, FASHION_MNIST_CLASSES, f"fashion-mnist/{split}")

    monkeypatch.setattr(labelled, "load_fashion_mnist", load)
    for split in ("train", "validation", "test"):
        told: list[int] = []
        real = read_labelled(
            "fashion-mnist", split, folder=tmp_path, image_shape=(28, 28, 1), validation_per_class=500,
            on_images=told.append,
        )  # fmt: skip
        assert np.array_equal(real.images, images) and real.name == f"fashion-mnist/{split}" and told == [20]
    colours = read_labelled("fashion-mnist", folder=tmp_path, image_shape=(32, 32, 3))
    assert colours.images.shape == (20, 32, 32, 3) and colours.labels.tolist() == [*range(10), *range(10)]
    with pytest.raises(InvalidValue, match="is declared, 500 of each class, not 300"):
        read_labelled("fashion-mnist", folder=tmp_path, validation_per_class=300)


def test_a_folder_does_not_pass_for_the_declared_splits(tmp_path: Path) -> None:
    as_class_folders(tmp_path / "fashion-mnist")
    assert read_labelled(str(tmp_path / "fashion-mnist")).name == f"{tmp_path}/fashion-mnist/train"


def parquet_in(image: pa.DataType, label: pa.DataType) -> Callable[[Path], None]:
    """A Parquet file with images and labels in these types of Arrow's."""

    def array(values: list[Any], kind: pa.DataType) -> pa.Array:
        if pa.types.is_dictionary(kind):
            return pa.array(values, kind.value_type).dictionary_encode()
        return pa.array(values, kind)

    def write(path: Path) -> None:
        pictures: list[Any] = [encoded(image) for image in IMAGES]
        if pa.types.is_struct(image):
            pictures = [{"bytes": picture, "path": "x.png"} for picture in pictures]
        if pa.types.is_fixed_size_binary(image):
            pictures = [encoded(image, "BMP") for image in IMAGES]
        numbers = pa.types.is_integer(label.value_type if pa.types.is_dictionary(label) else label)
        names = LABELS.tolist() if numbers else [NAMES[i] for i in LABELS]
        table = pa.table({"image": array(pictures, image), "label": array(names, label)})
        pq.write_table(table.replace_schema_metadata(hugging_face()), path)

    return write


VIEWS = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
BMP_BYTES = len(encoded(IMAGES[0], "BMP"))
ARROW_TYPES = [
    *((image, pa.string()) for image in (
        pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(BMP_BYTES), VIEWS,
        pa.dictionary(pa.int32(), pa.binary()), pa.dictionary(pa.int32(), pa.large_binary()),
    )),
    *((pa.binary_view(), label) for label in (
        pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.int8(), pa.uint64(),
        pa.dictionary(pa.int32(), pa.int64()),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("image", "label"), ARROW_TYPES, ids=str)
def test_every_type_of_bytes_and_strings_is_read(image: pa.DataType, label: pa.DataType, tmp_path: Path) -> None:
    parquet_in(image, label)(tmp_path / "x.parquet")
    real = read_labelled(str(tmp_path / "x.parquet"), validation_per_class=2)
    assert real.labels.tolist() == LABELS[rows_of(real)].tolist() and len(real) == N - 6
    assert real.class_names == NAMES


def parquet_of(**given: Any) -> Callable[[Path], None]:
    return lambda path: write_parquet(path, **{"images": structs(), "labels": pa.array(LABELS), **given})


def npz_of(**arrays: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)

    return write


def broken_folder(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_folders(path)
        damage(path)

    return write


def idx_with(name: str, content: bytes | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_idx(path, "train", slice(None))
        (path / name).unlink(missing_ok=True)
        if content is not None:
            (path / name).write_bytes(content)

    return write


def flat(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(encoded(IMAGES[0]))


TRAIN_LABELS = "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda path: None, DataNotFound, "there is nothing at .*source: name .*an NPZ file, or fashion-mnist"),
        (lambda path: path.mkdir(), DataNotFound, "no images in .*source"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), InvalidValue, "neither a Parquet, an IDX nor an NPZ .*934e554d"),
        (lambda path: path.write_bytes(b""), InvalidValue, "starts with nothing"),
        (flat, DataNotFound, "source has no class folders: put"),
        (broken_folder(lambda path: (path / "dog").mkdir()), IntegrityError, "no image of class 3, 'dog': add some"),
        (broken_folder(lambda path: (path / "bee" / "14.png").write_bytes(b"x")), IntegrityError,
         r"bee/14\.png cannot be decoded \(it is no image\): mend it"),
        (idx_with(TRAIN_LABELS, None), DataNotFound, f"no {TRAIN_LABELS} .* put it there"),
        (idx_with(TRAIN_LABELS, idx_bytes(LABELS[:-1].astype(np.uint8))), IntegrityError, "36 images, but 35 labels"),
        (idx_with(TRAIN_LABELS, idx_bytes(IMAGES)), InvalidValue, "not labels .*are these the images"),
        (idx_with(TRAIN_LABELS, idx_bytes(LABELS.astype(np.uint8) * 100)), IntegrityError, "a label is 200: labels"),
        (idx_with(TRAIN_LABELS, idx_bytes(LABELS.astype(np.uint8) * 2)), IntegrityError, "no image of class 1, '1'"),
        (idx_with("train-images-idx3-ubyte", idx_bytes(IMAGES)[:-1]), IntegrityError, "ubyte declares .*damaged"),
        (idx_with("class_names.json", b'["a", "b"]'), IntegrityError, "label of row 24 is 2, but there are 2 classes"),
        (idx_with("class_names.json", b'["a", "b", "c", "d"]'), IntegrityError, "no image of class 3, 'd'"),
        (idx_with("class_names.json", b'{"0": "a"}'), InvalidValue, "is no list of strings"),
        (idx_with("class_names.json", b"a, b"), IntegrityError, "is no JSON"),
        (parquet_of(labels=pa.array(LABELS - 1)), IntegrityError, "label of row 0 is -1, .*this split has none"),
        (parquet_of(metadata=hugging_face(("ant", "bee"))), IntegrityError, "label of row 24 is 2"),
        (parquet_of(metadata={"huggingface": "{"}), IntegrityError, "the metadata is damaged"),
        (parquet_of(labels=pa.array(LABELS.astype(float))), InvalidValue, "column 'label' is double: labels are"),
        (parquet_of(labels=pa.array([*LABELS[:-1], None])), IntegrityError, "row 35 has no label"),
        (parquet_of(labels=pa.array(["fox"] * N), metadata=hugging_face()), IntegrityError,
         "has the label 'fox', which is no class of ant, bee, cat"),
        (parquet_of(images=pa.array([*structs().to_pylist()[:-1], {"bytes": b"x"}])), IntegrityError,
         "row 35 of .*source cannot be decoded"),
        (lambda path: pq.write_table(pa.table({"image": structs()}), path), InvalidValue,
         "no column 'label' but image: rename"),
        (lambda path: path.write_bytes(b"PAR1 and no more"), IntegrityError, "cannot be read as Parquet"),
        (npz_of(images=IMAGES), DataNotFound, "has 'images', but no 'labels'"),
        (npz_of(pixels=IMAGES), InvalidValue, "has the arrays pixels: name them images and labels, x_train and"),
        (npz_of(images=IMAGES / 255, labels=LABELS), InvalidValue, "'images' is float64, not uint8: save pixels"),
        (npz_of(images=IMAGES.transpose(0, 3, 1, 2), labels=LABELS), InvalidValue, "they come last"),
        (npz_of(images=IMAGES[0, 0], labels=LABELS), InvalidValue, r"not images \(N, H, W\)"),
        (npz_of(images=IMAGES, labels=np.eye(3)[LABELS]), InvalidValue, "of one-hot rows, save the argmax"),
        (npz_of(images=IMAGES, labels=LABELS[1:]), IntegrityError, "36 images, but 35 labels"),
        (npz_of(images=IMAGES, labels=np.array([None] * N)), InvalidValue, "'labels' holds Python objects"),
        (npz_of(images=np.array([b""] * N, object), labels=LABELS), InvalidValue, "'images' holds Python objects"),
        (npz_of(images=IMAGES, labels=LABELS.astype(np.uint64) + 1), IntegrityError, "no image of class 0, '0'"),
        (npz_of(images=IMAGES[:0], labels=LABELS[:0]), DataNotFound, "has no labels"),
        (npz_of(images=IMAGES[:3], labels=np.arange(3)), InvalidValue, "class '0' has 1 images, of which 1 would"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_read(
    write: Callable[[Path], None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "source")
    with pytest.raises(error, match=message):
        read_labelled(str(tmp_path / "source"))


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:300] + b"~" * 50 + data[350:]])
def test_a_damaged_npz(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    as_npz(tmp_path / "source")
    (tmp_path / "source").write_bytes(damage((tmp_path / "source").read_bytes()))
    with pytest.raises(IntegrityError, match=r"source.*damaged"):
        read_labelled(str(tmp_path / "source"))


def test_classes_of_the_splits_must_agree(tmp_path: Path) -> None:
    splits_of_folders(tmp_path)
    (tmp_path / "val" / "cat").rename(tmp_path / "val" / "dog")
    assert len(read_labelled(str(tmp_path), "train")) == N // 2
    with pytest.raises(InvalidValue, match="val/dog is no class of the training images"):
        read_labelled(str(tmp_path), "validation")
    (tmp_path / "val" / "dog").rename(tmp_path / "dog")
    with pytest.raises(IntegrityError, match="val has no image of class 2, 'cat'"):
        read_labelled(str(tmp_path), "validation")


def test_shards_of_two_data_sets_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", structs(), pa.array(LABELS), hugging_face())
    write_parquet(tmp_path / "train-1.parquet", structs(), pa.array(LABELS), hugging_face(("x", "y", "z")))
    with pytest.raises(InvalidValue, match=r"train-0\.parquet declares .*'ant'.* but .*train-1\.parquet .*'x'"):
        read_labelled(str(tmp_path))


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="there is no split 'dev': give train, validation or test"):
        read_labelled("fashion-mnist", "dev")  # type: ignore[arg-type]


def test_import_is_light() -> None:
    code = "import sys, nonesuch.realdata.labelled; print(*{'torch', 'PIL', 'pyarrow'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def as_declared(path: Path) -> None:
    write_idx(path, "train", slice(None))
    (path / "class_names.json").write_text(json.dumps(SHARED))


def as_declared_in_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, images=IMAGES, labels=LABELS, class_names=np.array(SHARED))


def as_declared_by_hugging_face(path: Path) -> None:
    write_parquet(path, structs(), pa.array(LABELS), hugging_face(SHARED))


SHARED = ("crane", unicodedata.normalize("NFD", "café"), "crane")


@pytest.mark.parametrize("write", [as_declared, as_declared_in_npz, as_declared_by_hugging_face])
def test_names_that_a_source_declares_are_made_distinct(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "source")
    assert read_labelled(str(tmp_path / "source")).class_names == ("crane (0)", "café", "crane (2)")


def test_labels_are_one_class_in_every_unicode_form(tmp_path: Path) -> None:
    both = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]  # type: ignore[arg-type]
    names = np.array([both[i % 2] if i % 4 < 2 else "tea" for i in range(N)])
    npz_of(images=IMAGES, labels=names)(tmp_path / "n.npz")
    write_parquet(tmp_path / "p.parquet", structs(), pa.array(names.tolist()))
    for name in ("n.npz", "p.parquet"):
        real = read_labelled(str(tmp_path / name), validation_per_class=1)
        assert (real.class_names, np.bincount(real.labels).tolist()) == ((both[0], "tea"), [17, 17])


def folder_of(root: Path, name: str | bytes, rows: slice = slice(0, 4)) -> None:
    place = os.path.join(os.fsencode(root), os.fsencode(name))
    os.makedirs(place)
    for i, image in enumerate(IMAGES[rows]):
        with open(os.path.join(place, b"%d.png" % i), "wb") as file:
            file.write(encoded(image))


def test_class_folders_are_read_in_one_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))  # type: ignore[arg-type]
    for split, name in (("train", composed), ("test", decomposed)):
        folder_of(tmp_path / "d" / split, name)
        folder_of(tmp_path / "d" / split, "tea")
    for split in ("train", "validation", "test"):
        assert read_labelled(str(tmp_path / "d"), split).class_names == (composed, "tea")  # type: ignore[arg-type]
    folder_of(tmp_path / "d" / "train", decomposed)
    with pytest.raises(InvalidValue, match=r"called 'café', in different Unicode forms \('cafe\\u0301' and"):
        read_labelled(str(tmp_path / "d"))


@pytest.mark.parametrize("place", [b"data/caf\xe9", b"data/train_\xe9/cat", b"data/cat/caf\xe9", b"caf\xe9/cat"])
def test_names_that_are_not_utf8_are_refused_before_images_are_read(
    place: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelled, "_read", lambda *rest: pytest.fail("images were read"))
    folder_of(tmp_path, place)
    with pytest.raises(InvalidValue, match=r"the name of .*\\xe9 is not UTF-8") as refused:
        read_labelled(str(next(tmp_path.iterdir())))
    str(refused.value).encode()
