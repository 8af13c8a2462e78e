"""Formats: what a stream of record batches looks like on the wire."""

from typing import Protocol

import pyarrow as pa


class Format(Protocol):
    """Turns the batches of one order into bytes, a batch at a time. Holds no more than one batch."""

    media_type: str

    def add(self, batch: pa.RecordBatch) -> bytes:
        """The bytes that this batch adds, with whatever must come before the first one."""
        ...

    def finish(self) -> bytes:
        """The bytes that end the stream."""
        ...


class ArrowStream:
    """One Arrow IPC stream: the schema, each batch, the end-of-stream marker.

    Dictionaries (order, generator, strategy) are the same in every batch of an order and are written once.
    """

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, batch: pa.RecordBatch) -> bytes:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), batch.schema)
        self._writer.write_batch(batch)
        return self._sink.drain()

    def finish(self) -> bytes:
        if self._writer is not None:
            self._writer.close()
        return self._sink.drain()


class _Sink:
    """A file for pyarrow that gives out what was written since the last time."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def drain(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
