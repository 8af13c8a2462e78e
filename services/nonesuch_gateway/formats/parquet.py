"""Parquet, as `nonesuch.formats.parquet` writes it everywhere."""

from collections.abc import Iterator

import pyarrow as pa

from nonesuch.formats.parquet import ParquetTable
from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.sink import Piece, Sink


class ParquetFile(Format):
    """Images as {bytes: PNG, path}, labels as int64 with names, and every other column of the schema; categories are
    strings. The file's metadata is the schema's, and a description of image and label for `datasets`.
    """

    name = "parquet"
    media_type = "application/vnd.apache.parquet"
    signature = b"PAR1"
    opened_by = 'datasets.load_dataset("parquet", data_files="batch.parquet")["train"]'

    def __init__(self, outline: Outline) -> None:
        self._sink = Sink()
        self._table: ParquetTable | None = None

    def add(self, batch: pa.RecordBatch) -> list[Piece]:
        if self._table is None:
            self._table = ParquetTable(pa.PythonFile(self._sink, mode="w"), batch.schema)
        self._table.write_batch(batch)
        return self._sink.drain()

    def finish(self) -> Iterator[Piece]:
        assert self._table is not None
        self._table.close()
        yield from self._sink.drain()
