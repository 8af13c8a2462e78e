"""Real images without their labels, from wherever they lie: a folder, a Parquet file, an IDX file. Nothing is fetched.

Only the images that are drawn are read (of an IDX file, which has no index, all of them). Imports numpy; Pillow and
pyarrow when an image asks for them.

Legend: N images, H×W×C pixels wanted, h×w pixels as found.
"""

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.realdata import Split, load_fashion_mnist, read_idx

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
COLUMN = "image"
"""Of a Parquet file."""
_NAMED = re.compile(r"fashion-mnist/(train|validation|test)")
_MODES = {1: "L", 3: "RGB"}
_ROWS = 256  # decoded at a time

OnImages = Callable[[int], None]
"""Told how many more images were read."""


@dataclass(frozen=True, eq=False)
class UnlabelledImages:
    """Images that were drawn from a source."""

    images: NDArray[np.uint8]
    """(N, H, W, C), in the source's order"""
    name: str
    """What the source is, for people: "fashion-mnist/train", or the name of the folder or file."""
    total: int
    """How many images the source has."""

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        of = "" if len(self) == self.total else f" of the {self.total:,}"
        return f"{len(self):,}{of} images of {self.name}"


def read_images(
    path: Path | str,
    image_shape: tuple[int, int, int],
    *,
    limit: int,
    seed: int,
    folder: Path | None = None,
    on_images: OnImages = lambda images: None,
) -> UnlabelledImages:
    """Read `limit` images, or all if there are fewer, drawn without replacement.

    The same source, limit and seed give the same images on every machine. Labels are not looked at. Images of another
    size are scaled until they cover H×W and cut to its middle (bilinear, with antialiasing); colours become grey, or
    grey becomes colours, as C says.

    Args:
        path: one of
            - "fashion-mnist/train", "…/validation" or "…/test" (`realdata.load_fashion_mnist`); as a string only, a
              `Path` is always a path;
            - a folder of PNG, JPEG, BMP or WebP files, in subfolders or not;
            - a Parquet file whose column `image` holds fixed-shape uint8 tensors as we export them, encoded images,
              or Hugging Face's {bytes, path} of such;
            - an IDX file of bytes, (N, h, w) or (N, h, w, c), gzipped or plain.
        image_shape: (H, W, C) wanted; C is 1 or 3.
        limit: at least 1.
        seed: of the draw, not negative.
        folder: of Fashion-MNIST's files, for its names; None is where they are found.
        on_images: told now and then how many more images were read; what it raises ends the reading.

    Raises:
        DataNotFound: there is nothing at `path`, it cannot be read, or it holds no images.
        InvalidValue: the arguments cannot work, or the source is of another kind.
        IntegrityError: an image is damaged (the message names its file or row), or the source is.
    """
    if len(image_shape) != 3 or min(image_shape) < 1 or image_shape[2] not in _MODES:
        raise InvalidValue(f"images of {image_shape} cannot be read: give (H, W, C) with 1 or 3 channels")
    if limit < 1 or seed < 0:
        raise InvalidValue(f"limit {limit} with seed {seed} draws nothing: give at least 1 and 0", field="limit")
    draw = _Draw(image_shape, limit, seed, on_images)
    if isinstance(path, str) and (named := _NAMED.fullmatch(path)):
        return draw.of_arrays(path, load_fashion_mnist(cast(Split, named[1]), folder).images)
    path = Path(path)
    if path.is_dir():
        return draw.of_folder(path)
    match _first_bytes(path):
        case b"PAR1":
            return draw.of_parquet(path)
        case start if start[:2] == b"\x1f\x8b" or start[:3] == b"\x00\x00\x08":
            return draw.of_arrays(path.name, _idx_images(path))
        case start:
            raise InvalidValue(
                f"{path} is neither a folder of images nor a Parquet or IDX file (it starts with "
                f"{start.hex() or 'nothing'}): name one of these, or fashion-mnist/train"
            )


@dataclass(frozen=True)
class _Draw:
    """What is wanted of a source, whatever its kind."""

    shape: tuple[int, int, int]
    limit: int
    seed: int
    on_images: OnImages

    def rows(self, total: int) -> NDArray[np.int64]:
        """(N,) the rows that are drawn, ascending."""
        rng = np.random.Generator(np.random.Philox(self.seed))
        return np.sort(rng.permutation(total)[: self.limit])

    def of_arrays(self, name: str, images: NDArray[np.uint8]) -> UnlabelledImages:
        """Of (total, h, w, c) in memory."""
        drawn = images[self.rows(len(images))]
        fitted = self._fitted(drawn, name)
        self.on_images(len(fitted))
        return UnlabelledImages(fitted, name, len(images))

    def of_folder(self, folder: Path) -> UnlabelledImages:
        files = _image_files(folder)
        if not files:
            raise DataNotFound(
                f"no images in {folder}: it, or a folder in it, must hold files that end in {', '.join(ENDINGS)}; "
                "Parquet and IDX files are named themselves"
            )
        rows = self.rows(len(files))
        images = np.empty((len(rows), *self.shape), np.uint8)
        for i, row in enumerate(rows):
            images[i] = self._decoded(_read_bytes(files[row]), str(files[row]))
            self.on_images(1)
        return UnlabelledImages(images, folder.resolve().name, len(files))

    def of_parquet(self, path: Path) -> UnlabelledImages:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                if COLUMN not in file.schema_arrow.names:
                    raise InvalidValue(
                        f"{path} has no column {COLUMN!r} but {', '.join(file.schema_arrow.names)}: rename the one "
                        "with the images"
                    )
                total = file.metadata.num_rows
                if not total:
                    raise DataNotFound(f"{path} has no rows")
                rows = self.rows(total)
                images = np.empty((len(rows), *self.shape), np.uint8)
                done = 0
                for drawn, column in _drawn_columns(file, rows):
                    images[done : done + len(drawn)] = self._of_column(column, drawn, path)
                    done += len(drawn)
                    self.on_images(len(drawn))
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(f"{path} cannot be read as Parquet ({error}): it is damaged") from error
        return UnlabelledImages(images, path.name, total)

    def _of_column(self, column: "pa.Array", rows: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
        """The images of some rows of a Parquet file. `rows` are their numbers, for messages."""
        import pyarrow as pa

        kind = column.type
        if isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8():
            if column.null_count:
                raise IntegrityError(f"{path}: row {_first_null(column, rows)} has no image")
            return self._fitted(_with_channels(column.to_numpy_ndarray(), path), str(path))
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            column = column.field("bytes")  # Parquet reads null structs as structs of nulls
        if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            raise InvalidValue(
                f"{path}: column {COLUMN!r} is {kind}; images are fixed-shape tensors of uint8, encoded bytes, or a "
                "struct of bytes and path"
            )
        if column.null_count:
            raise IntegrityError(
                f"{path}: row {_first_null(column, rows)} has no bytes: embed the images when the file is written"
            )
        encoded = zip(rows, column.to_pylist(), strict=True)
        return np.stack([self._decoded(data, f"row {row} of {path}") for row, data in encoded])

    def _decoded(self, data: bytes, name: str) -> NDArray[np.uint8]:
        """(H, W, C) of an encoded image. Raises `IntegrityError` that names it."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return self._pixels(image)
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
            reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
            raise IntegrityError(f"{name} cannot be decoded ({reason}): mend it, or take it away") from error

    def _fitted(self, images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        """(N, h, w, c) to (N, H, W, C). Raises `InvalidValue` for channels that are neither grey nor colours."""
        if images.shape[1:] == self.shape:
            return images
        if images.shape[3] not in _MODES or min(images.shape[1:]) < 1:
            raise InvalidValue(f"{name} has images of {images.shape[1:]}: 1 (grey) or 3 channels (colours) can be read")
        from PIL import Image

        flat = images if images.shape[3] == 3 else images[..., 0]
        return np.stack([self._pixels(Image.fromarray(image)) for image in flat])

    def _pixels(self, image: "Image") -> NDArray[np.uint8]:
        """(H, W, C) of a picture of any size and mode."""
        from PIL import Image, ImageOps

        height, width, channels = self.shape
        if image.mode.startswith("I"):  # 16 bits, which `convert` would clip to 8
            image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
        if image.mode == "P":  # a palette may have transparency, which only RGBA can hold
            image = image.convert("RGBA")
        image = ImageOps.fit(image.convert(_MODES[channels]), (width, height), Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8).reshape(self.shape)


def _image_files(folder: Path) -> list[Path]:
    """Every image file below a folder, links followed, sorted by name; hidden files are none."""
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders.clear()
        for name in visible:
            if (real := os.path.realpath(os.path.join(place, name))) not in seen:  # links can lead in circles
                seen.add(real)
                folders.append(name)
        names = (name for name in files if name.lower().endswith(ENDINGS) and not name.startswith("."))
        found += [Path(place, name) for name in names]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _drawn_columns(file: Any, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], "pa.Array"]]:
    """The drawn rows of an open Parquet file, some at a time: their numbers and their column. Ascending."""
    starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
    for group in range(file.num_row_groups):
        start, stop = starts[group], starts[group + 1]
        if not ((rows >= start) & (rows < stop)).any():
            continue
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[COLUMN]):
            drawn = rows[(rows >= start) & (rows < start + len(batch))]
            if len(drawn):
                yield drawn, _taken(batch.column(0), drawn - start)
            start += len(batch)


def _taken(column: "pa.Array", rows: NDArray[np.int64]) -> "pa.Array":
    """Some rows of a column, of an extension's type or not."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(column.type, column.storage.take(pa.array(rows)))
    return column.take(pa.array(rows))


def _first_null(column: "pa.Array", rows: NDArray[np.int64]) -> int:
    return int(rows[np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]])


def _idx_images(path: Path) -> NDArray[np.uint8]:
    """(N, h, w, c) of an IDX file."""
    images = _with_channels(read_idx(path), path)
    if not len(images):
        raise DataNotFound(f"{path} has no images")
    return images


def _with_channels(images: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    """(N, h, w) or (N, h, w, c) to (N, h, w, c)."""
    if images.ndim not in (3, 4):
        raise InvalidValue(f"{path} holds {images.shape}, not images (N, H, W) or (N, H, W, C): are these the labels?")
    return images if images.ndim == 4 else images[..., None]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataNotFound(
            f"there is nothing at {path}: name a folder of images, a Parquet or IDX file, or fashion-mnist/train, "
            "fashion-mnist/validation or fashion-mnist/test"
        ) from None
    except OSError as error:
        raise DataNotFound(f"cannot read {path}: {error.strerror}") from error


def _first_bytes(path: Path) -> bytes:
    with _reading(path), path.open("rb") as file:
        return file.read(4)


def _read_bytes(path: Path) -> bytes:
    with _reading(path):
        return path.read_bytes()
