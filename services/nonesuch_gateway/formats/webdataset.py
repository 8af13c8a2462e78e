"""A tar that WebDataset reads as a shard."""

import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from nonesuch.schema import class_names_of, images_of
from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.pictures import png, stem


class WebDatasetTar(Format):
    """Three members for each image, named by its index: .png, .cls (the label in decimal digits), and .json (every
    other column, and the label's name as `class`).
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
    """Every column but the image, row by row, in JSON's types, and the label's name."""
    names = class_names_of(batch.schema)
    rows: list[dict[str, Any]] = batch.drop_columns(["image"]).to_pylist()
    return [{"class": names[row["label"]], **row} for row in rows]


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A member's header, data and padding. `tarfile.TarFile` would keep every header in memory."""
    info = tarfile.TarInfo(name)  # of 1970, owned by nobody
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)
