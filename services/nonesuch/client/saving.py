"""A batch as a file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nonesuch.errors import InvalidValue
from nonesuch.host.files import replacing

if TYPE_CHECKING:
    from nonesuch.client.batch import Batch


def save(batch: "Batch", path: Path) -> None:
    """Write a file, whole or not at all; it replaces one of that name. Raises `InvalidValue` for another ending."""
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InvalidValue(f"{path} ends in none of {', '.join(_WRITERS)}: the ending chooses the format")
    with replacing(path) as temporary:
        write(batch, temporary)


def _arrow_stream(batch: "Batch", path: Path) -> None:
    with pa.ipc.new_stream(path, batch.arrow.schema) as writer:
        writer.write_batch(batch.arrow)


def _arrow_file(batch: "Batch", path: Path) -> None:
    with pa.ipc.new_file(path, batch.arrow.schema) as writer:
        writer.write_batch(batch.arrow)


def _parquet(batch: "Batch", path: Path) -> None:
    with pq.ParquetWriter(path, batch.arrow.schema) as writer:
        writer.write_batch(batch.arrow)


def _npz(batch: "Batch", path: Path) -> None:
    names = np.array(batch.class_names, np.str_)
    with path.open("wb") as file:  # numpy adds an ending of its own to a name
        np.savez(file, images=batch.images, labels=batch.labels, index=batch.indices, class_names=names)


def _png(batch: "Batch", path: Path) -> None:
    batch.show().save(path, "PNG")


_WRITERS: dict[str, Callable[["Batch", Path], None]] = {
    ".arrows": _arrow_stream,
    ".arrow": _arrow_file,
    ".parquet": _parquet,
    ".npz": _npz,
    ".png": _png,
}
