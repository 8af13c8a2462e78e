"""Labelled real images, from wherever they lie: class folders, Parquet, IDX, NPZ. Nothing is fetched.

What a generator is trained on, and what metrics are measured against. Imports numpy; Pillow and pyarrow when an image
asks for them.

Legend: N images, H×W×C pixels wanted, K classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.labels import distinct_names
from nonesuch.realdata.decoding import Canvas, OnImages, Shape, check_shape
from nonesuch.realdata.fashion_mnist import VALIDATION_PER_CLASS, RealImages, Split, drawn_rows, load_fashion_mnist
from nonesuch.realdata.labelled_sources import LabelledSource, LabelledSplit, open_labelled
from nonesuch.realdata.sources import Arrays, ImageSource, check_text, name_of

FASHION_MNIST = "fashion-mnist"
VALIDATION_FRACTION = 0.1
"""How many of each class are the validation split unless a number is given, as a fraction of the smallest class."""


def read_labelled(
    source: str,
    split: Split = "train",
    *,
    image_shape: Shape | None = None,
    validation_per_class: int | None = None,
    folder: Path | None = None,
    on_images: OnImages = lambda images: None,
) -> RealImages:
    """Read a split of labelled images.

    A source without a validation split of its own has one cut from its training images: as many of each class, drawn
    with a fixed seed; "train" is the rest. Which images these are is a function of the labels in the source's order and
    of that number alone, so the cut is declared: the same on every machine, as long as no image is added, removed or
    renamed. "test" is never cut from anything.

    Args:
        source: one of
            - "fashion-mnist" (`load_fashion_mnist`), with its declared splits;
            - a folder of class folders with PNG, JPEG, BMP or WebP files, in subfolders or not. Classes are sorted by
              name; images in no class folder are not read. If it has folders train, validation and test with the class
              folders in them, these are the splits, in the usual spellings (`splits`): Training, val_set, dev;
            - a folder with MNIST's IDX files: train-images-idx3-ubyte, train-labels-idx1-ubyte, and t10k-… as "test",
              gzipped or plain. Classes are named in `class_names.json`, a list, or else "0", "1", …;
            - an IDX file of images, …-images-idx3-ubyte, with its …-labels-idx1-ubyte beside it;
            - a Parquet file, or a folder of them, with columns `image` (`shards`) and `label`, integers or strings.
              Names of files or folders give the splits, spelled likewise: train-00000-of-00003.parquet. Classes are
              named in our own metadata or Hugging Face's, or else are "0", "1", … or the sorted strings;
            - an NPZ file with uint8 `images` and `labels` and maybe `class_names`, or x_train, y_train, x_test, y_test
              as Keras saves them. (N, H, W) or (N, H, W, C).
        image_shape: (H, W, C) wanted, where C is 1 or 3: images are scaled and cut to it (`decoding.Canvas`). None is
            their own, in which all must agree.
        validation_per_class: how many of each class are cut; None is a tenth of the smallest class, at least 1.
        folder: of Fashion-MNIST's files; None is where they are found.
        on_images: told now and then how many more images were read; what it raises ends the reading.

    Names of classes are in the Unicode form NFC, and distinct (`labels.distinct_names`).

    Raises:
        DataNotFound: there is nothing at `source`, or no such split, no images, no labels, or no class folders in it.
        InvalidValue: the arguments cannot work, the source is of another kind, or its images differ in shape.
        IntegrityError: something is damaged (the message names the file or row), or labels do not belong to the images.
    """
    if split not in get_args(Split):
        raise InvalidValue(f"there is no split {split!r}: give train, validation or test", field="split")
    if image_shape is not None:
        check_shape(image_shape)
    if validation_per_class is not None and validation_per_class < 1:
        raise InvalidValue(
            f"{validation_per_class} images of each class are no validation split: give at least 1",
            field="validation_per_class",
        )
    if source == FASHION_MNIST:
        return _fashion_mnist(split, image_shape, validation_per_class, folder, on_images)
    path = Path(source)
    check_text(path)
    stored = open_labelled(path)
    cut = "validation" not in stored.parts
    if not cut and validation_per_class is not None:
        raise InvalidValue(
            f"{source} has a validation split of its own, so {validation_per_class} images of each class are not cut: "
            "leave the number out",
            field="validation_per_class",
        )
    stored_split: Split = "train" if cut and split == "validation" else split
    part = _part(stored, stored_split, source)
    labels, names = _labels(stored, part)
    images = part.images()
    if len(images) != len(labels):
        raise IntegrityError(
            f"{part.name} has {len(images)} images, but {len(labels)} labels: they do not belong together"
        )
    rows = np.arange(len(labels))
    if cut and split != "test":
        validation = _cut(labels, names, validation_per_class, part)
        rows = validation if split == "validation" else np.setdiff1d(rows, validation)
    return RealImages(
        images=_read(images, rows, image_shape, on_images),
        labels=labels[rows],
        class_names=names,
        name=f"{_shown(path)}/{split}{_called(part, stored_split)}",
    )


def _fashion_mnist(
    split: Split, shape: Shape | None, per_class: int | None, folder: Path | None, on_images: OnImages
) -> RealImages:
    if per_class not in (None, VALIDATION_PER_CLASS):
        raise InvalidValue(
            f"the validation split of {FASHION_MNIST} is declared, {VALIDATION_PER_CLASS} of each class, not "
            f"{per_class}: leave the number out",
            field="validation_per_class",
        )
    real = load_fashion_mnist(split, folder)
    if shape is None or shape == real.images.shape[1:]:
        on_images(len(real))
        return real
    images = _read(Arrays(real.images, real.name), np.arange(len(real)), shape, on_images)
    return RealImages(images, real.labels, real.class_names, real.name)


def _shown(path: Path) -> str:
    """The path's last part, unless that would be taken for the declared splits, which those of a folder are not."""
    return str(path.absolute()) if name_of(path) == FASHION_MNIST else name_of(path)


def _called(part: LabelledSplit, split: Split) -> str:
    """How the source itself calls a split, where that is another word: " (Training)"."""
    return "" if part.called in (None, split) else f" ({part.called})"


def _part(stored: LabelledSource, split: Split, source: str) -> LabelledSplit:
    if split not in stored.parts:
        raise DataNotFound(
            f"{source} has no {split} split, only {' and '.join(stored.parts)}: a validation split is cut from the "
            "training images, but these and the test images must be there"
        )
    return stored.parts[split]


def _labels(stored: LabelledSource, part: LabelledSplit) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The labels, (N,) in [0, K), and the K names. Classes that nobody declares are those of the training images."""
    found = part.labels()
    if stored.class_names is not None:
        names = _distinct(stored.class_names, part)
    else:
        training = stored.parts.get("train", part)
        names = _names(found if training is part else training.labels(), training)
    if found.dtype.kind == "U":
        found = _numbered(found, names, part)
    wrong = np.flatnonzero((found < 0) | (found >= len(names)))
    if len(wrong):
        raise IntegrityError(
            f"{part.name}: the label of row {wrong[0]} is {found[wrong[0]]}, but there are {len(names)} classes: "
            "labels count from 0 (and -1 says that this split has none)"
        )
    labels = found.astype(np.int32)
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        empty = int(counts.argmin())
        raise IntegrityError(
            f"{part.name} has no image of class {empty}, {names[empty]!r}: add some, or leave the class out, counting "
            "the others from 0"
        )
    return labels, names


def _distinct(names: Sequence[str], part: LabelledSplit) -> tuple[str, ...]:
    try:
        return distinct_names(names)
    except InvalidValue as error:
        raise InvalidValue(f"{part.name}: {error}", field=error.field) from None


def _numbered(labels: NDArray[Any], names: tuple[str, ...], part: LabelledSplit) -> NDArray[np.int64]:
    """(N,) strings to their places among the names."""
    written, where = np.unique(labels, return_inverse=True)
    numbers = {name: i for i, name in enumerate(names)}
    known = [normalize("NFC", str(name)) for name in written]
    if unknown := [name for name in known if name not in numbers]:
        raise IntegrityError(f"{part.name} has the label {unknown[0]!r}, which is no class of {', '.join(names)}")
    return np.array([numbers[name] for name in known], np.int64)[where]


def _names(labels: NDArray[Any], part: LabelledSplit) -> tuple[str, ...]:
    """The strings, sorted, or "0", "1", … up to the highest number."""
    if not len(labels):
        raise DataNotFound(f"{part.name} has no labels")
    if labels.dtype.kind == "U":
        return _distinct(sorted({normalize("NFC", str(name)) for name in np.unique(labels)}), part)
    if labels.max() >= len(labels):  # some class would be empty: say so before so many are named
        raise IntegrityError(
            f"{part.name} has {len(labels)} images, but a label is {labels.max()}: labels count from 0, without gaps"
        )
    return tuple(map(str, range(int(labels.max()) + 1)))


def _cut(
    labels: NDArray[np.int32], names: tuple[str, ...], asked: int | None, part: LabelledSplit
) -> NDArray[np.int64]:
    """The rows, ascending, that are the validation split."""
    counts = np.bincount(labels, minlength=len(names))
    smallest = int(counts.argmin())
    per_class = max(1, int(counts[smallest] * VALIDATION_FRACTION)) if asked is None else asked
    if counts[smallest] <= per_class:
        raise InvalidValue(
            f"{part.name}: class {names[smallest]!r} has {counts[smallest]} images, of which {per_class} would be cut "
            "for validation and none be left: add images, ask for fewer, or give a validation split of its own",
            field="validation_per_class",
        )
    return drawn_rows(labels, per_class, len(names))


def _read(source: ImageSource, rows: NDArray[np.int64], shape: Shape | None, on_images: OnImages) -> NDArray[np.uint8]:
    canvas = Canvas(len(rows), shape, on_images)
    source.fill(canvas, rows)
    return canvas.images
