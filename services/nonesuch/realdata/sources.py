"""Images by row, wherever they lie: in memory, in files, in Parquet shards (`shards.py`). Nothing is fetched.

Legend: N images, h×w×c pixels as found.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, InvalidValue
from nonesuch.labels import is_text
from nonesuch.realdata.decoding import Canvas

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
PARQUET = ".parquet"
KINDS = "a folder of images, a Parquet file or a folder of them, an IDX file"
_ROWS = 256  # copied at a time


class ImageSource(Protocol):
    """Images that can be read by row."""

    def __len__(self) -> int: ...

    def fill(self, canvas: Canvas, rows: NDArray[np.int64]) -> None:
        """Add the images of these rows, ascending, to the canvas; no others are decoded.

        Raises `IntegrityError` that names the file or row that is damaged, and what `Canvas` raises.
        """


class Arrays:
    """Images in memory, (N, h, w) or (N, h, w, c). `name` is for messages."""

    def __init__(self, images: NDArray[np.uint8], name: str) -> None:
        self._images = with_channels(images, name)
        self._name = name
        if not len(images):
            raise DataNotFound(f"{name} has no images")

    def __len__(self) -> int:
        return len(self._images)

    def fill(self, canvas: Canvas, rows: NDArray[np.int64]) -> None:
        for start in range(0, len(rows), _ROWS):
            canvas.add_arrays(self._images[rows[start : start + _ROWS]], self._name)


class ImageFiles:
    """Encoded images, each in a file of its own."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def fill(self, canvas: Canvas, rows: NDArray[np.int64]) -> None:
        for row in rows:
            file = self._files[row]
            with reading(file):
                data = file.read_bytes()
            canvas.add_encoded(data, text_of(file))


def files_below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Every file below a folder with one of these endings, links followed, sorted by name; hidden files are none."""
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders.clear()
        for name in visible:
            if (real := os.path.realpath(os.path.join(place, name))) not in seen:  # links can lead in circles
                seen.add(real)
                folders.append(name)
        names = (name for name in files if name.lower().endswith(endings) and not name.startswith("."))
        found += [Path(place, name) for name in names]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files below a folder, or else the Parquet files: one of the lists is empty.

    Raises:
        DataNotFound: there are neither.
        InvalidValue: there are both.
    """
    found = files_below(folder, (*ENDINGS, PARQUET))
    shards = [path for path in found if path.suffix.lower() == PARQUET]
    images = [path for path in found if path.suffix.lower() != PARQUET] if shards else found
    if not found:
        raise DataNotFound(
            f"no images in {folder}: it, or a folder in it, must hold files that end in {', '.join(ENDINGS)}, or "
            "Parquet files; files of other kinds are named themselves"
        )
    if images and shards:
        raise InvalidValue(
            f"{folder} holds both images ({images[0]}) and Parquet files ({shards[0]}): name the folder of one kind"
        )
    return images, shards


def text_of(path: Path) -> str:
    """A path for messages, with bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_text(path: Path) -> None:
    """Raises `InvalidValue` for a path whose last part is not UTF-8, and could not be written anywhere."""
    if not is_text(name_of(path)):
        raise InvalidValue(
            f"the name of {text_of(path)} is not UTF-8, so it comes from another system: rename it, as "
            "convmv --notest -f latin1 -t utf8 does"
        )


def name_of(path: Path) -> str:
    """The last part of a path, of "." too; of a link, its own."""
    return Path(os.path.abspath(path)).name


def with_channels(images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """(N, h, w) or (N, h, w, c) to (N, h, w, c). Raises `InvalidValue` for another number of dimensions."""
    if images.ndim not in (3, 4):
        raise InvalidValue(f"{name} holds {images.shape}, not images (N, H, W) or (N, H, W, C): are these the labels?")
    return images if images.ndim == 4 else images[..., None]


@contextmanager
def reading(path: Path, kinds: str = KINDS) -> Iterator[None]:
    """Turns what the system says of a path into `DataNotFound`. `kinds` are what could have been named."""
    try:
        yield
    except FileNotFoundError:
        raise DataNotFound(f"there is nothing at {text_of(path)}: name {kinds}") from None
    except OSError as error:
        raise DataNotFound(f"cannot read {text_of(path)}: {error.strerror}") from error


def first_bytes(path: Path, kinds: str = KINDS) -> bytes:
    """The first 4 bytes of a file, by which the kinds of files are told apart. Raises `DataNotFound`."""
    with reading(path, kinds), path.open("rb") as file:
        return file.read(4)


def is_idx(start: bytes) -> bool:
    """Whether a file that starts so is an IDX file of bytes, or a gzipped file, which nothing else here is."""
    return start[:2] == b"\x1f\x8b" or start[:3] == b"\x00\x00\x08"
