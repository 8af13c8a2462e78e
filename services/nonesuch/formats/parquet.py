"""Parquet as Hugging Face's `datasets` writes it: encoded images, and labels with their names."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nonesuch.formats.pictures import check_channels, png, stem
from nonesuch.schema import class_names_of, images_of

GROUP_ROWS = 1024
GROUP_BYTES = 4 * 2**20
"""A row group is written when it has `GROUP_ROWS` rows or so many bytes. Many small ones would be slow to read, and the
footer keeps some KB of each to the end."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_LABEL = pa.int64()
"""The types that `datasets` stores an Image and a ClassLabel as. Columns of other types would not be seen as such."""
_UNIQUE = {"image", "index", "z", "soft_label"}


class ParquetTable:
    """A Parquet file that batches are added to: images as {bytes: PNG, path}, labels as int64 with names, and every
    other column of the schema; categories are strings. The file's metadata is the schema's, and a description of image
    and label for `datasets`. The same batches give the same bytes.
    """

    def __init__(self, where: Path | pa.NativeFile, schema: pa.Schema) -> None:
        """`schema` is that of the batches. Raises `InvalidOrder` for images that no PNG can hold."""
        check_channels(schema.field("image").type.shape[2])
        self._schema = _stored(schema)
        # Statistics and dictionaries of images would put whole images into the footer, and find none twice.
        repeated = [name for name in schema.names if name not in _UNIQUE]
        self._writer = pq.ParquetWriter(
            where, self._schema, use_dictionary=repeated, write_statistics=["index", *repeated]
        )
        self._group: list[pa.RecordBatch] = []

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch; they are written when there are enough of them for a row group."""
        self._group.append(_converted(batch, self._schema))
        rows = sum(part.num_rows for part in self._group)
        if rows >= GROUP_ROWS or sum(part.nbytes for part in self._group) >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write what is left, and the footer. Comes once, after the last batch."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        table = pa.Table.from_batches(self._group, self._schema)
        if table.num_rows:
            self._writer.write_table(table)
        self._group.clear()


def _stored(schema: pa.Schema) -> pa.Schema:
    """The schema of the file: with PNGs for images, wide labels, and strings for categories."""
    own = {"image": _IMAGE, "label": _LABEL}
    fields = []
    for field in schema:
        plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fields.append((field.name, own.get(field.name, plain)))
    # `datasets` must be told of image and label; it finds out the types of the other columns itself.
    features = {"image": {"_type": "Image"}, "label": {"names": class_names_of(schema), "_type": "ClassLabel"}}
    told = json.dumps({"info": {"features": features}}).encode()
    return pa.schema(fields, {**schema.metadata, b"huggingface": told})


def _converted(batch: pa.RecordBatch, stored: pa.Schema) -> pa.RecordBatch:
    """The batch with the types of the file."""
    paths = [f"{stem(index)}.png" for index in batch.column("index").to_pylist()]
    pngs = [png(image) for image in images_of(batch)]
    pictures = [pa.array(pngs, pa.binary()), pa.array(paths, pa.string())]
    images = pa.StructArray.from_arrays(pictures, fields=list(_IMAGE))
    columns = [images if field.name == "image" else batch.column(field.name).cast(field.type) for field in stored]
    return pa.record_batch(columns, schema=stored)
