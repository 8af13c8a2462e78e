"""A tar that WebDataset reads as a shard."""

import json
import tarfile
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from nonesuch.formats.pictures import png, stem
from nonesuch.schema import class_names_of, images_of
from nonesuch_gateway.formats.base import Format, Outline

NO_FLOAT = float(np.finfo(np.float32).min)
NO_INTEGER = -1
"""What stands in the `.json` for a number that there is not. Readers find out the type of a field from a few rows, so
one that is null in one order and a number in the next would keep their shards apart; and strict JSON has no NaN."""


class WebDatasetTar(Format):
    """Three members for each image, named by its index: .png, .cls (the label in decimal digits), and .json (every
    other column, and the label's name as `class`).

    A field of the `.json` has the same type in every order: `NO_FLOAT` and `NO_INTEGER` stand for null. Latents and
    soft labels are texts, the base64 of little-endian float16 numbers; the empty text stands for null.
    """

    name = "webdataset"
    media_type = "application/x-tar"
    signature = b"0000"
    """What the name of the first image begins with."""
    opened_by = 'webdataset.WebDataset("batch.tar", shardshuffle=False).decode("pil").to_tuple("png", "cls")'

    def __init__(self, outline: Outline) -> None:
        pass

    def add(self, batch: pa.RecordBatch) -> list[bytes]:
        parts: list[bytes] = []
        for image, row in zip(images_of(batch), _rows(batch), strict=True):
            key = stem(row["index"])
            parts += _member(f"{key}.png", png(image))
            parts += _member(f"{key}.cls", str(row["label"]).encode())
            parts += _member(f"{key}.json", json.dumps(row).encode())
        return [b"".join(parts)]

    def finish(self) -> Iterator[bytes]:
        yield bytes(2 * tarfile.BLOCKSIZE)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Every column but the image, row by row, in JSON's types without null, and the label's name."""
    names = class_names_of(batch.schema)
    columns = {name: _values(batch.column(name)) for name in batch.schema.names if name != "image"}
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return [{"class": names[row["label"]], **row} for row in rows]


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_list(column.type):
        return ["" if row is None else b64encode(np.array(row, "<f2").tobytes()).decode() for row in column.to_pylist()]
    if pa.types.is_floating(column.type):
        column = column.fill_null(NO_FLOAT)
    elif pa.types.is_integer(column.type):
        column = column.fill_null(NO_INTEGER)
    values: list[Any] = column.to_pylist()
    return values


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A member's header, data and padding. `tarfile.TarFile` would keep every header in memory."""
    info = tarfile.TarInfo(name)  # of 1970, owned by nobody
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)
