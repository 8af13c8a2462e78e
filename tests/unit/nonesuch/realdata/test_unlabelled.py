"""Real images without labels: every kind of source gives the same images, the draw is the seed's, damage has a name."""

import gzip
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue, NonesuchError
from nonesuch.realdata import shards, sources, unlabelled
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES, RealImages
from nonesuch.realdata.unlabelled import read_images

SHAPE = (6, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, *SHAPE), np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG", **given: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, kind, **given)
    return file.getvalue()


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def as_folder(path: Path) -> None:
    """In two class folders, such that the order of the names is that of the images."""
    for i, image in enumerate(IMAGES):
        name = path / f"class {i // 5}" / f"{i}.{'PNG' if i % 2 else 'bmp'}"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(encoded(image, name.suffix[1:].upper()))
    (path / "class 0" / "labels.txt").write_text("no image")
    (path / ".cache").mkdir()
    (path / ".cache" / "thumbnail.png").write_bytes(encoded(IMAGES[0]))
    (path / "class 1" / "._9.png").write_bytes(b"not an image")
    (path / "class 1" / "up").symlink_to(path, target_is_directory=True)


def as_idx(path: Path) -> None:
    path.write_bytes(idx_bytes(IMAGES))


def as_gzipped_idx(path: Path) -> None:
    path.write_bytes(gzip.compress(idx_bytes(IMAGES)))


def write_parquet(path: Path, column: pa.Array) -> None:
    table = pa.table({"label": pa.array(range(len(column))), "image": column})
    pq.write_table(table, path, row_group_size=5)


def as_tensors(path: Path) -> None:
    kind = pa.fixed_shape_tensor(pa.uint8(), SHAPE)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(IMAGES.reshape(-1)), int(np.prod(SHAPE)))
    write_parquet(path, pa.ExtensionArray.from_storage(kind, flat))


def as_hugging_face(path: Path) -> None:
    write_parquet(path, pa.array([{"bytes": encoded(image), "path": "x.png"} for image in IMAGES]))


def as_bytes(path: Path) -> None:
    write_parquet(path, pa.array([encoded(image) for image in IMAGES], pa.large_binary()))


SOURCES = [as_folder, as_idx, as_gzipped_idx, as_tensors, as_hugging_face, as_bytes]


@pytest.mark.parametrize("write", SOURCES)
def test_every_source_gives_the_same_images(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_ROWS", 3)
    monkeypatch.setattr(shards, "_ROWS", 2)
    write(tmp_path / "source")
    told: list[int] = []
    every = read_images(tmp_path / "source", SHAPE, limit=100, seed=3, on_images=told.append)
    assert np.array_equal(every.images, IMAGES)
    assert (every.name, every.total, str(every)) == ("source", 10, "10 images of source")
    assert sum(told) == 10
    some = read_images(tmp_path / "source", SHAPE, limit=4, seed=3)
    assert str(some) == "4 of the 10 images of source"
    rows = [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in some.images]
    assert rows == sorted(set(rows)) == np.sort(np.random.Generator(np.random.Philox(3)).permutation(10)[:4]).tolist()
    assert not np.array_equal(some.images, read_images(tmp_path / "source", SHAPE, limit=4, seed=4).images)


def test_only_what_is_drawn_is_read(tmp_path: Path) -> None:
    as_folder(tmp_path / "folder")
    for i in set(range(10)) - set(np.random.Generator(np.random.Philox(3)).permutation(10)[:4].tolist()):
        next((tmp_path / "folder").rglob(f"{i}.*")).write_bytes(b"broken")
    assert len(read_images(tmp_path / "folder", SHAPE, limit=4, seed=3)) == 4
    with pytest.raises(IntegrityError):
        read_images(tmp_path / "folder", SHAPE, limit=10, seed=3)


def test_the_order_of_the_file_system_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_folder(tmp_path / "folder")
    first = read_images(tmp_path / "folder", SHAPE, limit=5, seed=0)
    scan = os.walk

    def backwards(*args: object, **kwargs: object):
        for place, folders, files in scan(*args, **kwargs):  # type: ignore[call-overload]
            folders.reverse()
            yield place, folders, files[::-1]

    monkeypatch.setattr(sources.os, "walk", backwards)
    assert np.array_equal(read_images(tmp_path / "folder", SHAPE, limit=5, seed=0).images, first.images)


def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    as_folder(tmp_path / "all")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "one class").symlink_to(tmp_path / "all" / "class 0", target_is_directory=True)
    assert read_images(tmp_path / "some", SHAPE, limit=100, seed=0).total == 5


def test_labels_are_dropped_from_named_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = np.arange(20 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(20, 28, 28, 1)

    def load(split: str, folder: Path | None) -> RealImages:
        assert folder == tmp_path
        return RealImages(images, np.zeros(20, np.int32), FASHION_MNIST_CLASSES, f"fashion-mnist/{split}")

    monkeypatch.setattr(unlabelled, "load_fashion_mnist", load)
    for split in ("train", "validation", "test"):
        real = read_images(f"fashion-mnist/{split}", (28, 28, 1), limit=20, seed=0, folder=tmp_path)
        assert np.array_equal(real.images, images)
        assert real.name == f"fashion-mnist/{split}"
    monkeypatch.chdir(tmp_path)
    for path in (Path("fashion-mnist/train"), "./fashion-mnist/train", "fashion-mnist/trian"):
        with pytest.raises(DataNotFound, match=r"there is nothing at fashion-mnist/tr.*fashion-mnist/validation"):
            read_images(path, (28, 28, 1), limit=20, seed=0)


def wide() -> np.ndarray:
    """(20, 60, 3): the middle 24 columns are red, the others blue: of the middle square every pixel is red."""
    image = np.zeros((20, 60, 3), np.uint8)
    image[..., 2] = 255
    image[:, 18:42] = (255, 0, 0)
    return image


@pytest.mark.parametrize("source", ["folder", "idx", "tensors"])
@pytest.mark.parametrize("tall", [False, True])
def test_other_sizes_are_scaled_and_cut_to_the_middle(source: str, tall: bool, tmp_path: Path) -> None:
    image = wide().transpose(1, 0, 2) if tall else wide()
    path = tmp_path / "source"
    if source == "folder":
        path.mkdir()
        (path / "a.png").write_bytes(encoded(image))
    elif source == "idx":
        path.write_bytes(idx_bytes(image[None]))
    else:
        kind = pa.fixed_shape_tensor(pa.uint8(), image.shape)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(image.reshape(-1)), image.size)
        write_parquet(path, pa.ExtensionArray.from_storage(kind, flat))
    square = read_images(path, (16, 16, 3), limit=1, seed=0).images[0]
    assert (square == (255, 0, 0)).all()
    whole = read_images(path, (20, 10, 3) if tall else (10, 20, 3), limit=1, seed=0).images[0]
    edge, middle = (whole[0, 5], whole[10, 5]) if tall else (whole[5, 0], whole[5, 10])
    assert edge.tolist() == [0, 0, 255]
    assert middle.tolist() == [255, 0, 0]


def test_shrinking_averages(tmp_path: Path) -> None:
    stripes = np.zeros((32, 32), np.uint8)
    stripes[:, ::2] = 255
    (tmp_path / "a.png").write_bytes(encoded(stripes))
    small = read_images(tmp_path, (4, 4, 1), limit=1, seed=0).images
    assert np.abs(small.astype(int) - 127).max() < 20


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_colours_palettes_and_transparency(channels: int, tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 6), (255, 0, 0))
    palette = red.convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes([255] * 255))
    red.convert("RGBA").save(tmp_path / "rgba.png")
    red.save(tmp_path / "red.png")
    Image.new("L", (8, 6), 76).save(tmp_path / "grey.png")
    Image.fromarray(np.full((6, 8), 76 * 257, np.uint16)).save(tmp_path / "deep.png")
    names = sorted(path.name for path in tmp_path.iterdir())
    found = dict(zip(names, read_images(tmp_path, (6, 8, channels), limit=9, seed=0).images, strict=True))
    for name, image in found.items():
        grey = channels == 1 or name in ("grey.png", "deep.png")
        assert (image == (76 if grey else (255, 0, 0))).all(), name


def test_idx_of_colours_becomes_grey_and_grey_becomes_colours(tmp_path: Path) -> None:
    (tmp_path / "grey").write_bytes(idx_bytes(IMAGES[..., 0]))
    three = read_images(tmp_path / "grey", SHAPE, limit=10, seed=0).images
    assert np.array_equal(three, np.repeat(IMAGES[..., :1], 3, axis=3))
    as_idx(tmp_path / "colours")
    one = read_images(tmp_path / "colours", (6, 8, 1), limit=10, seed=0).images
    assert np.abs(one[..., 0] - IMAGES @ [0.299, 0.587, 0.114]).max() <= 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    as_folder(tmp_path / "folder")
    broken = tmp_path / "folder" / "class 1" / "7.PNG"
    for damage in (
        lambda data: data[:-30],
        lambda data: b"",
        lambda data: b"<html>",
        lambda data: data[:40] + data[60:],
    ):
        broken.write_bytes(damage(encoded(IMAGES[7])))
        with pytest.raises(IntegrityError, match=r"class 1/7\.PNG cannot be decoded .*: mend it, or take it away"):
            read_images(tmp_path / "folder", SHAPE, limit=10, seed=0)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (pa.array([encoded(IMAGES[0])] * 4 + [b"broken"]), IntegrityError, "row 4 of .*source cannot be decoded"),
        (pa.array([encoded(IMAGES[0])] * 4 + [None]), IntegrityError, "row 4 has no bytes: embed"),
        (pa.array([{"bytes": None, "path": "a.png"}], pa.struct({"bytes": pa.binary(), "path": pa.string()})),
         IntegrityError, "row 0 has no bytes: embed"),
        (pa.array([None, {"bytes": b"", "path": ""}], pa.struct({"bytes": pa.binary(), "path": pa.string()})),
         IntegrityError, "row 0 has no bytes: embed"),
        (pa.array(["a.png"]), InvalidValue, "column 'image' is string; images are"),
        (pa.array([], pa.binary()), DataNotFound, "has no rows"),
    ],
)  # fmt: skip
def test_parquet_that_holds_no_images(column: pa.Array, error: type[Exception], message: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "source", column)
    with pytest.raises(error, match=message):
        read_images(tmp_path / "source", SHAPE, limit=10, seed=0)


def test_parquet_without_the_column_or_damaged(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": pa.array([b""]), "label": pa.array([1])}), tmp_path / "a")
    with pytest.raises(InvalidValue, match="no column 'image' but img, label: rename"):
        read_images(tmp_path / "a", SHAPE, limit=10, seed=0)
    as_tensors(tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="b cannot be read as Parquet"):
        read_images(tmp_path / "b", SHAPE, limit=10, seed=0)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"GIF89a", InvalidValue, "neither a folder of images nor a Parquet or IDX file .*47494638"),
        (b"", InvalidValue, "starts with nothing"),
        (idx_bytes(np.zeros(5, np.uint8)), InvalidValue, r"holds \(5,\), not images .*labels\?"),
        (idx_bytes(np.zeros((0, 6, 8), np.uint8)), DataNotFound, "has no images"),
        (idx_bytes(np.zeros((2, 6, 8, 2), np.uint8)), InvalidValue, r"images of \(6, 8, 2\): 1 \(grey\) or 3"),
        (idx_bytes(IMAGES)[:-1], IntegrityError, "it is damaged"),
    ],
)
def test_files_that_hold_no_images(content: bytes, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(error, match=message):
        read_images(tmp_path / "source", SHAPE, limit=10, seed=0)


def test_a_folder_without_images(tmp_path: Path) -> None:
    as_idx(tmp_path / "a")
    with pytest.raises(DataNotFound, match=r"no images in .*\.png, \.jpg.*or Parquet files; .* named themselves"):
        read_images(tmp_path, SHAPE, limit=10, seed=0)


def split_shards(folder: Path, names: dict[str, slice]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in names.items():
        write_parquet(folder / f"{name}.parquet", pa.array([encoded(image) for image in IMAGES[rows]]))


def test_a_folder_of_shards_gives_the_images_of_all(tmp_path: Path) -> None:
    names = {f"part-{i:05d}-of-00003": rows for i, rows in enumerate((slice(0, 3), slice(3, 9), slice(9, 10)))}
    split_shards(tmp_path / "source" / "data", names)
    every = read_images(tmp_path / "source", SHAPE, limit=100, seed=3)
    assert np.array_equal(every.images, IMAGES)
    assert (every.name, every.total) == ("source", 10)
    rows = np.sort(np.random.Generator(np.random.Philox(3)).permutation(10)[:4])
    assert np.array_equal(read_images(tmp_path / "source", SHAPE, limit=4, seed=3).images, IMAGES[rows])


def test_of_shards_of_several_splits_one_is_named(tmp_path: Path) -> None:
    split_shards(tmp_path / "data", {"train-0": slice(0, 4), "train-1": slice(4, 8), "validation-0": slice(8, 10)})
    with pytest.raises(InvalidValue, match=r"of train, validation: name one of them, as in .*data/train"):
        read_images(tmp_path / "data", SHAPE, limit=100, seed=0)
    train = read_images(tmp_path / "data" / "train", SHAPE, limit=100, seed=0)
    assert np.array_equal(train.images, IMAGES[:8])
    assert train.name == "data/train"
    assert np.array_equal(read_images(str(tmp_path / "data/val"), SHAPE, limit=9, seed=0).images, IMAGES[8:])
    with pytest.raises(DataNotFound, match=r"there is nothing at .*data/test"):
        read_images(tmp_path / "data" / "test", SHAPE, limit=100, seed=0)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["train-00000-of-00003", "train-00002-of-00003"], DataNotFound,
         "lacks 1 of the 3 shards of 'train', the first of them train-00001-of-00003"),
        (["train", "more"], InvalidValue, r"more\.parquet names no split, but .*train\.parquet does"),
        (["train_test"], InvalidValue, r"more than one split, test and train"),
        (["val-0", "validation-0"], InvalidValue, "has val and validation, which both mean validation"),
    ],
)  # fmt: skip
def test_shards_whose_names_do_not_agree(
    names: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    split_shards(tmp_path, dict.fromkeys(names, slice(0, 1)))
    with pytest.raises(error, match=message):
        read_images(tmp_path, SHAPE, limit=100, seed=0)


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    as_folder(tmp_path)
    as_bytes(tmp_path / "a.parquet")
    with pytest.raises(InvalidValue, match=r"both images \(.*0\.bmp\) and Parquet files \(.*a\.parquet\)"):
        read_images(tmp_path, SHAPE, limit=100, seed=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(orientation: int, tmp_path: Path) -> None:
    """EXIF 2.32, tag 0x0112: where the stored rows and columns belong."""
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: x.transpose(1, 0, 2)[::-1],
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    }[orientation](IMAGES[0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encoded(np.ascontiguousarray(stored), exif=exif))
    write_parquet(tmp_path / "b", pa.array([encoded(np.ascontiguousarray(stored), exif=exif)]))
    assert np.array_equal(read_images(tmp_path, SHAPE, limit=1, seed=0).images[0], IMAGES[0])
    assert np.array_equal(read_images(tmp_path / "b", SHAPE, limit=1, seed=0).images[0], IMAGES[0])


def test_a_damaged_orientation_turns_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(IMAGES[0], exif=b"Exif\0\0garbage"))
    assert np.array_equal(read_images(tmp_path, SHAPE, limit=1, seed=0).images[0], IMAGES[0])


@pytest.mark.parametrize("given", [{"limit": 0}, {"seed": -1}, {"shape": (6, 8, 2)}, {"shape": (0, 8, 3)}])
def test_arguments_that_cannot_work(given: dict[str, object], tmp_path: Path) -> None:
    as_idx(tmp_path / "source")
    arguments = {"shape": SHAPE, "limit": 1, "seed": 0, **given}
    with pytest.raises(InvalidValue):
        read_images(tmp_path / "source", arguments.pop("shape"), **arguments)  # type: ignore[arg-type]


def test_what_the_callback_raises_ends_the_reading(tmp_path: Path) -> None:
    as_folder(tmp_path / "folder")

    def stop(images: int) -> None:
        raise NonesuchError("enough")

    with pytest.raises(NonesuchError, match="enough"):
        read_images(tmp_path / "folder", SHAPE, limit=10, seed=0, on_images=stop)


def test_import_is_light() -> None:
    code = "import sys, nonesuch.realdata.unlabelled; print(*{'torch', 'PIL', 'pyarrow'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
