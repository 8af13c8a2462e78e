"""Real images, from a folder that is already there: nothing is ever fetched. numpy only.

Fashion-MNIST (Xiao, Rasul & Vollgraf 2017; MIT licence, Zalando SE) has 60,000 training and 10,000 test images. Of the
training images, 500 of each class are set apart as a validation split that no generator, teacher or metric network
learns from: whatever is tuned is tuned on them, so that the test images choose nothing.
"""

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
Split = Literal["train", "validation", "test"]

VALIDATION_PER_CLASS = 500
_SPLIT_SEED = 20_190_801  # declares the validation split: changing it changes which images count as unseen
_ENVIRONMENT = "NONESUCH_FASHION_MNIST"
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
IDX_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The files of images and labels of MNIST and of those that are stored like it, by split; gzipped or not."""


@dataclass(frozen=True, eq=False)
class RealImages:
    """Labelled real images.

    Attributes:
        images: (N, H, W, C) uint8.
        labels: (N,) int32, in [0, len(class_names)).
        class_names: one for each class, in the order of the labels.
        name: what they are, for people: "fashion-mnist/train", "data/train (Training)" if that is its folder.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise InvalidValue(
                f"{self.name}: images are {self.images.dtype} {self.images.shape}, not uint8 (N, H, W, C)"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int32:
            raise InvalidValue(
                f"{self.name}: labels are {self.labels.dtype} {self.labels.shape}, not int32 ({len(self.images)},)"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise InvalidValue(
                f"{self.name}: labels span [{self.labels.min()}, {self.labels.max()}], "
                f"but there are {len(self.class_names)} class names"
            )

    def __len__(self) -> int:
        return len(self.images)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or plain, into a fresh array of the shape that it declares.

    Raises:
        DataNotFound: there is no such file.
        IntegrityError: it is not an IDX file of bytes, or is shorter or longer than it declares.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataNotFound(f"cannot read {path}: {error.strerror}") from error
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise IntegrityError(f"{path} is a damaged gzip file ({error}): install it again") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3]:
        raise IntegrityError(f"{path} is not an IDX file of bytes: it starts with {data[:4].hex() or 'nothing'}")
    offset = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:offset])
    expected = int(np.prod(shape, dtype=np.uint64))
    if len(data) - offset != expected:
        raise IntegrityError(
            f"{path} declares {shape}, {expected} bytes, but holds {len(data) - offset}: it is damaged"
        )
    return np.frombuffer(data, np.uint8, offset=offset).reshape(shape).copy()


def find_fashion_mnist(folder: Path | None = None) -> Path:
    """The folder with Fashion-MNIST's four IDX files: the one given, else $NONESUCH_FASHION_MNIST, else Debian's.

    Raises:
        DataNotFound: the folder lacks one of them; nothing else is tried in its place.
    """
    if folder is not None:
        chosen, why = folder, "the folder given"
    elif os.environ.get(_ENVIRONMENT):
        chosen, why = Path(os.environ[_ENVIRONMENT]), f"${_ENVIRONMENT}"
    else:
        chosen, why = _DEBIAN_FOLDER, "the default"
    missing = [name for pair in IDX_FILES.values() for name in pair if idx_file(chosen, name) is None]
    if missing:
        raise DataNotFound(
            f"Fashion-MNIST is not in {chosen} ({why}): no {', '.join(missing)} (.gz or not). Install the Debian "
            "package dataset-fashion-mnist, or name a folder that holds these files: "
            f"--data FOLDER or ${_ENVIRONMENT}"
        )
    return chosen


def load_fashion_mnist(split: Split, folder: Path | None = None) -> RealImages:
    """Load a split: "train" 55,000, "validation" 5,000 (500 a class, of the training images) or "test" 10,000.

    Images are (N, 28, 28, 1) uint8.

    Raises:
        DataNotFound: the files are not there (see `find_fashion_mnist`).
        IntegrityError: a file is damaged, or images and labels do not belong together.
    """
    found = find_fashion_mnist(folder)
    images, labels = (_read_named(found, name) for name in IDX_FILES["test" if split == "test" else "train"])
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise IntegrityError(
            f"{found} does not hold Fashion-MNIST: images are {images.shape} and labels {labels.shape}, "
            "not (N, 28, 28) and (N,)"
        )
    rows = np.arange(len(labels))
    if split != "test":
        validation = validation_rows(labels)
        rows = validation if split == "validation" else np.setdiff1d(rows, validation)
    return RealImages(
        images=images[rows, :, :, None],
        labels=labels[rows].astype(np.int32),
        class_names=FASHION_MNIST_CLASSES,
        name=f"fashion-mnist/{split}",
    )


def validation_rows(labels: NDArray[np.uint8], per_class: int = VALIDATION_PER_CLASS) -> NDArray[np.int64]:
    """The rows, ascending, of the declared validation split: `per_class` of each class, drawn with a fixed seed.

    Raises:
        IntegrityError: a class has too few images.
    """
    counts = np.bincount(labels, minlength=len(FASHION_MNIST_CLASSES))[: len(FASHION_MNIST_CLASSES)]
    if counts.min() <= per_class:
        raise IntegrityError(
            f"class {counts.argmin()} has {counts.min()} training images, but the validation split alone takes "
            f"{per_class}: these are not the 60,000 training images of Fashion-MNIST"
        )
    return drawn_rows(labels, per_class, len(FASHION_MNIST_CLASSES))


def drawn_rows(labels: NDArray[Any], per_class: int, classes: int) -> NDArray[np.int64]:
    """`per_class` rows of each class, ascending, drawn with a fixed seed: a function of the labels in their order."""
    rng = np.random.Generator(np.random.Philox(_SPLIT_SEED))
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(classes)]
    return np.sort(np.concatenate(chosen))


def idx_file(folder: Path, name: str) -> Path | None:
    """The file of that name, gzipped or plain, if there is one."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _read_named(folder: Path, name: str) -> NDArray[np.uint8]:
    path = idx_file(folder, name)
    assert path is not None, "find_fashion_mnist has checked"
    return read_idx(path)
