"""Parquet as Hugging Face's `datasets` writes it: encoded images, and labels with their names."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from nonesuch.schema import class_names_of, images_of
from nonesuch_gateway.formats.base import Format, Outline
from nonesuch_gateway.formats.pictures import png, stem
from nonesuch_gateway.formats.sink import Piece, Sink

GROUP_ROWS = 1024
GROUP_BYTES = 4 * 2**20
"""A row group is written when it has `GROUP_ROWS` rows or so many bytes. Many small ones would be slow to read, and the
footer keeps some KB of each to the end."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_LABEL = pa.int64()
"""The types that `datasets` stores an Image and a ClassLabel as. Columns of other types would not be seen as such."""
_UNIQUE = {"image", "index", "z", "soft_label"}


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
        self._writer: pq.ParquetWriter | None = None
        self._group: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> list[Piece]:
        converted = _converted(batch)
        if self._writer is None:
            self._writer = _writer(self._sink, converted.schema)
        self._group.append(converted)
        rows = sum(part.num_rows for part in self._group)
        if rows >= GROUP_ROWS or sum(part.nbytes for part in self._group) >= GROUP_BYTES:
            self._write_group()
        return self._sink.drain()

    def finish(self) -> Iterator[Piece]:
        assert self._writer is not None
        self._write_group()
        self._writer.close()
        yield from self._sink.drain()

    def _write_group(self) -> None:
        assert self._writer is not None
        table = pa.Table.from_batches(self._group, self._writer.schema)
        if table.num_rows:
            self._writer.write_table(table)
        self._group.clear()


def _writer(sink: Sink, schema: pa.Schema) -> pq.ParquetWriter:
    # Statistics and dictionaries of images would put whole images into the footer, and find none twice.
    repeated = [name for name in schema.names if name not in _UNIQUE]
    return pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"), schema, use_dictionary=repeated, write_statistics=["index", *repeated]
    )


def _converted(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with PNGs for images, wide labels, and strings for categories."""
    paths = [f"{stem(index)}.png" for index in batch.column("index").to_pylist()]
    pngs = [png(image) for image in images_of(batch)]
    images = [pa.array(pngs, pa.binary()), pa.array(paths, pa.string())]
    own = {
        "image": pa.StructArray.from_arrays(images, fields=list(_IMAGE)),
        "label": batch.column("label").cast(_LABEL),
    }
    columns = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        plain = column.dictionary_decode() if pa.types.is_dictionary(field.type) else column
        columns[field.name] = own.get(field.name, plain)
    return pa.record_batch(columns, metadata=_metadata(batch.schema))


def _metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """A file's metadata: ours, and what `datasets` must be told; it finds out the types of the other columns itself."""
    features = {"image": {"_type": "Image"}, "label": {"names": class_names_of(schema), "_type": "ClassLabel"}}
    return {**schema.metadata, b"huggingface": json.dumps({"info": {"features": features}}).encode()}
