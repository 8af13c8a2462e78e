"""Arrow IPC: the schema that workers commit, as it is."""

from collections.abc import Iterator

import pyarrow as pa

from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.sink import Piece, Sink

CODECS = ("zstd", "lz4")


class ArrowStream(Format):
    """One Arrow IPC stream: the schema, each batch, the end-of-stream marker. Each batch is one of the order's tickets.

    Dictionaries (order, generator, strategy) are the same in every batch of an order and are written once. A codec
    compresses the buffers of each batch; readers need not be told which.
    """

    name = "arrow"
    media_type = "application/vnd.apache.arrow.stream"
    signature = b"\xff\xff\xff\xff"
    opened_by = 'pyarrow.ipc.open_stream("batch.arrows").read_all()'

    def __init__(self, outline: Outline) -> None:
        self.heavy = outline.codec is not None
        if outline.codec is not None:
            self.media_type = f"{type(self).media_type}; codecs={outline.codec}"
        self._options = pa.ipc.IpcWriteOptions(compression=outline.codec)
        self._sink = Sink()
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, batch: pa.RecordBatch) -> list[Piece]:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), batch.schema, options=self._options)
        self._writer.write_batch(batch)
        return self._sink.drain()

    def finish(self) -> Iterator[Piece]:
        if self._writer is not None:
            self._writer.close()
        yield from self._sink.drain()
