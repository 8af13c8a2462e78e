"""A batch as a file."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from nonesuch import schema
from nonesuch.client.images.pictures import grid
from nonesuch.formats.tables import TABLES, open_writer
from nonesuch.host.files import replacing


def save(batch: pa.RecordBatch, path: Path) -> None:
    """Write a file, whole or not at all; it replaces one of that name.

    Raises `InvalidValue` for another ending, and for images that the format cannot hold.
    """
    write = _WRITERS[schema.format_of(path, _WRITERS)]
    with replacing(path) as temporary:
        write(batch, temporary)


def _table(form: str) -> "_Write":
    def write(batch: pa.RecordBatch, path: Path) -> None:
        with closing(open_writer(path, form, batch.schema)) as writer:
            writer.write_batch(batch)

    return write


def _npz(batch: pa.RecordBatch, path: Path) -> None:
    images, labels, index = schema.images_of(batch), schema.labels_of(batch), schema.indices_of(batch)
    names = np.array(schema.class_names_of(batch.schema), np.str_)
    with path.open("wb") as file:  # numpy adds an ending of its own to a name
        np.savez(file, images=images, labels=labels, index=index, class_names=names)


def _png(batch: pa.RecordBatch, path: Path) -> None:
    grid(schema.images_of(batch)).save(path, "PNG")


_Write = Callable[[pa.RecordBatch, Path], None]
_WRITERS: dict[str, _Write] = {**{form: _table(form) for form in TABLES}, "npz": _npz, "png": _png}
