"""NPZ: numpy's own format, without pickles."""

import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from nonesuch.schema import class_names_of, images_of
from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.sink import Piece, Sink
from nonesuch_gateway.formats.spool import Spool

_NOT_SCALAR = ("image", "z", "soft_label")
_OTHER_NAMES = {"label": "labels"}


class NpzFile(Format):
    """Arrays `images` (N, H, W, C) uint8, `labels` (N,) int32, `class_names` (K,) str, and the scalar columns of the
    schema by their names, (N,) each. A null is NaN among floats and -1 among integers. A column of categories, like
    `generator`, holds places in an array of strings, like `generator_names`. Latents and soft labels are left out.

    An array begins with its length. So images are sent as they come only if all of them will come; else they wait for
    the last one in a temporary file, as the other columns always do.
    """

    name = "npz"
    media_type = "application/x-npz"
    signature = b"PK\x03\x04"
    opened_by = 'numpy.load("batch.npz")["images"]'

    def __init__(self, outline: Outline) -> None:
        self._count = outline.count
        self._late = None if outline.complete else Spool()
        self._sink = Sink()
        self._zip = zipfile.ZipFile(self._sink, "w")
        self._array: IO[bytes] | None = None
        self._rows: _Rows | None = None

    def add(self, batch: pa.RecordBatch) -> list[Piece]:
        if self._rows is None:
            self._rows = _Rows(batch)
            if self._late is None:
                self._begin("images", np.dtype(np.uint8), (self._count, *images_of(batch).shape[1:]))
        self._rows.add(batch)
        pixels = np.ascontiguousarray(images_of(batch)).reshape(-1)
        if self._late is None:
            self._write(pixels.data)
        else:
            self._late.write(pixels.data)
        return self._sink.drain()

    def finish(self) -> Iterator[Piece]:
        assert self._rows is not None
        count = len(self._rows)
        if self._late is None:
            assert count == self._count, f"{count} of {self._count} images came"
        else:
            self._begin("images", np.dtype(np.uint8), (count, *self._rows.image_shape))
            for piece in self._late.pieces():
                self._write(piece)
                yield from self._sink.drain()
        for name, dtype, pieces in self._rows.columns():
            self._begin(_OTHER_NAMES.get(name, name), dtype, (count,))
            for piece in pieces:
                self._write(piece)
                yield from self._sink.drain()
        for name, strings in self._rows.names.items():
            self._begin(name, strings.dtype, strings.shape)
            self._write(strings.tobytes())
        self._end()
        yield from self._sink.drain()

    def close(self) -> None:
        self._end()
        if self._late is not None:
            self._late.close()
        if self._rows is not None:
            self._rows.close()

    def _begin(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """End the array before, and write what comes before this one's values."""
        if self._array is not None:
            self._array.close()
        self._array = self._zip.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)  # of 1980
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._array, header)

    def _write(self, data: bytes | memoryview) -> None:
        assert self._array is not None
        self._array.write(data)

    def _end(self) -> None:
        if self._array is not None:
            self._array.close()
        self._zip.close()


class _Rows:
    """The scalar columns of all batches, row by row in one spool, from which each column is read by itself."""

    def __init__(self, first: pa.RecordBatch) -> None:
        self._type = np.dtype([(name, values.dtype) for name, values in _scalars(first).items()])
        self._spool = Spool()
        self._dictionaries = _dictionaries(first)
        self.names = {"class_names": np.array(class_names_of(first.schema), np.str_)} | {
            f"{name}_names": np.array(strings.to_pylist(), np.str_) for name, strings in self._dictionaries.items()
        }
        """Names by the array that holds them, (K,) each: of the classes, and of each column of categories."""
        self.image_shape = images_of(first).shape[1:]

    def __len__(self) -> int:
        return len(self._spool) // self._type.itemsize

    def add(self, batch: pa.RecordBatch) -> None:
        assert _dictionaries(batch) == self._dictionaries, "the batches of an order name the same categories"
        rows = np.empty(batch.num_rows, self._type)
        for name, values in _scalars(batch).items():
            rows[name] = values
        self._spool.write(rows.tobytes())

    def columns(self) -> Iterator[tuple[str, np.dtype[Any], Iterator[bytes]]]:
        """Name, dtype and values of each column, to be read one after the other."""
        for name in self._type.names or ():
            pieces = self._spool.pieces(self._type.itemsize)
            yield name, self._type[name], (np.frombuffer(p, self._type)[name].tobytes() for p in pieces)

    def close(self) -> None:
        self._spool.close()


def _scalars(batch: pa.RecordBatch) -> dict[str, NDArray[Any]]:
    """The scalar columns of a batch by name, (N,) each: numbers, without nulls."""
    return {name: _numbers(batch.column(name)) for name in batch.schema.names if name not in _NOT_SCALAR}


def _numbers(column: pa.Array) -> NDArray[Any]:
    plain = column.indices if pa.types.is_dictionary(column.type) else column
    null = float("nan") if pa.types.is_floating(plain.type) else -1
    numbers: NDArray[Any] = plain.fill_null(null).to_numpy(zero_copy_only=False)
    return numbers


def _dictionaries(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    fields = (field for field in batch.schema if pa.types.is_dictionary(field.type))
    return {field.name: batch.column(field.name).dictionary for field in fields}
