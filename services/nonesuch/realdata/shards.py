"""Images and labels in Parquet: a file, or the shards of a data set as Hugging Face names them.

Images are a column `image` of fixed-shape uint8 tensors, of encoded images, or of {bytes, path} of such as Hugging Face
and we write them; labels a column `label` of integers or strings. Imports numpy; pyarrow when a file is opened.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nonesuch.errors import DataNotFound, IntegrityError, InvalidValue
from nonesuch.realdata.decoding import Canvas
from nonesuch.realdata.sources import with_channels

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE, LABEL = "image", "label"
_ROWS = 256  # decoded at a time


class Shards:
    """The rows of some Parquet files, one after another.

    Raises:
        DataNotFound: there are no rows.
        IntegrityError: a file is damaged.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._counts = []
        for path in files:
            with _opened(path) as file:
                self._counts.append(file.metadata.num_rows)
        if not len(self):
            raise DataNotFound(f"{files[0]} has no rows")

    def __len__(self) -> int:
        return sum(self._counts)

    def fill(self, canvas: Canvas, rows: NDArray[np.int64]) -> None:
        start = 0
        for path, count in zip(self._files, self._counts, strict=True):
            own = rows[(rows >= start) & (rows < start + count)] - start
            start += count
            with _opened(path) as file:
                _has(file, path, IMAGE)
                for drawn, column in _drawn_columns(file, own):
                    _add(canvas, column, drawn, path)

    def labels(self) -> NDArray[Any]:
        """(N,) of all rows, int64 or strings. Raises `InvalidValue` for another type, `IntegrityError` for a null."""
        return np.concatenate([_labels(path) for path in self._files])

    def class_names(self) -> tuple[str, ...] | None:
        """What the metadata declares, ours or Hugging Face's ClassLabel; None if it declares nothing.

        Raises `InvalidValue` if two files declare different ones.
        """
        first = _class_names(self._files[0])
        for path in self._files[1:]:
            if (other := _class_names(path)) != first:
                raise InvalidValue(
                    f"{self._files[0]} declares the classes {first}, but {path} {other}: they are of different data "
                    "sets, so name the folder of one"
                )
        return first


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open Parquet file. What pyarrow raises meanwhile is damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(f"{path} cannot be read as Parquet ({error}): it is damaged") from error


def _has(file: Any, path: Path, column: str) -> None:
    names = file.schema_arrow.names
    if column not in names:
        raise InvalidValue(f"{path} has no column {column!r} but {', '.join(names)}: rename the one with the {column}s")


def _class_names(path: Path) -> tuple[str, ...] | None:
    with _opened(path) as file:
        metadata = file.schema_arrow.metadata or {}
    try:
        if (own := metadata.get(b"nonesuch.class_names")) is not None:
            return tuple(str(name) for name in json.loads(own))
        feature = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][LABEL]
        return tuple(str(name) for name in feature["names"])
    except (KeyError, TypeError):  # there is none of it: labels need not be a ClassLabel
        return None
    except ValueError as error:
        raise IntegrityError(f"{path}: the metadata is damaged ({error}): write the file again") from None


def _labels(path: Path) -> NDArray[Any]:
    import pyarrow as pa

    with _opened(path) as file:
        _has(file, path, LABEL)
        column = file.read([LABEL]).column(0)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise IntegrityError(f"{path}: row {row} has no label: give it one, or leave the row out")
        plain = _plain(column)
        if pa.types.is_integer(plain.type):
            return cast(NDArray[Any], plain.cast(pa.int64()).to_numpy())
    if pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type):
        return np.array(plain.to_pylist(), np.str_)
    raise InvalidValue(f"{path}: column {LABEL!r} is {column.type}: labels are integers or strings, one for each image")


def _drawn_columns(file: Any, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], "pa.Array"]]:
    """The drawn rows of an open Parquet file, some at a time: their numbers and their images. Ascending."""
    starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
    for group in range(file.num_row_groups):
        start, stop = starts[group], starts[group + 1]
        if not ((rows >= start) & (rows < stop)).any():
            continue
        for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[IMAGE]):
            drawn = rows[(rows >= start) & (rows < start + len(batch))]
            if len(drawn):
                yield drawn, _taken(_plain(batch.column(0)), drawn - start)
            start += len(batch)


def _add(canvas: Canvas, column: "pa.Array", rows: NDArray[np.int64], path: Path) -> None:
    """Add a column of images. `rows` are their numbers in the file, for messages."""
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8():
        if column.null_count:
            raise IntegrityError(f"{path}: row {_first_null(column, rows)} has no image")
        return canvas.add_arrays(with_channels(column.to_numpy_ndarray(), str(path)), str(path))
    if not pa.types.is_large_binary(kind):
        raise InvalidValue(
            f"{path}: column {IMAGE!r} is {kind}; images are fixed-shape tensors of uint8, encoded bytes, or a "
            "struct of bytes and path"
        )
    if column.null_count:
        raise IntegrityError(
            f"{path}: row {_first_null(column, rows)} has no bytes: embed the images when the file is written"
        )
    for row, data in zip(rows, column, strict=True):
        canvas.add_encoded(data.as_py(), f"row {row} of {path}")


def _plain(column: Any) -> Any:
    """A column without dictionaries and views, of which some kernels cannot take rows; all bytes in one type, and of
    Hugging Face's {bytes, path} the bytes.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return _plain(column.field("bytes"))  # Parquet reads null structs as structs of nulls
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.large_binary())
    return column.cast(pa.string()) if pa.types.is_string_view(kind) else column


def _taken(column: "pa.Array", rows: NDArray[np.int64]) -> "pa.Array":
    """Some rows of a column, of an extension's type or not."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(column.type, column.storage.take(pa.array(rows)))
    return column.take(pa.array(rows))


def _first_null(column: "pa.Array", rows: NDArray[np.int64]) -> int:
    return int(rows[np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]])
