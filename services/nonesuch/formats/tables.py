"""Files that hold every column of a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from nonesuch.formats.pictures import check_channels

TABLES = frozenset({"arrow", "arrow-file", "parquet"})
"""The formats that hold every column of a batch: Arrow as it is, Parquet with PNGs for images."""


class Writer(Protocol):
    """A file that batches of one schema are added to."""

    def write_batch(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> None: ...


def check_table(form: str, image_shape: tuple[int, int, int]) -> None:
    """Raises `InvalidOrder` for images of (H, W, C) that one of `TABLES` cannot hold."""
    if form == "parquet":
        check_channels(image_shape[2])


def open_writer(path: Path, form: str, schema: pa.Schema) -> Writer:
    """Write one of `TABLES`, of batches of this schema. The file is complete once it is closed.

    Raises what `check_table` does.
    """
    if form == "parquet":
        from nonesuch.formats.parquet import ParquetTable  # pyarrow.parquet takes longer to import than all else here

        return ParquetTable(path, schema)
    opened: dict[str, Callable[[Path, pa.Schema], Writer]] = {"arrow": pa.ipc.new_stream, "arrow-file": pa.ipc.new_file}
    return opened[form](path, schema)
