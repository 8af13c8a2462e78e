"""The one Arrow schema: ring, REST, Parquet and files all carry it.

A row is an image, its label, and where it came from, so that the image can be made again: generator and sha256,
strategy, σ, truncation, order seed and index, and for mined rows the latent itself. Truncation t means
z = t · truncnorm(−2, 2), as in pytorch-pretrained-biggan; null means z ~ N(0, σ²I).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError

if TYPE_CHECKING:
    from nonesuch.catalog import GeneratorInfo

SCHEMA_VERSION = "1"
IMAGE_RANGE = "uint8 0..255 is round((x + 1) * 127.5) of x in [-1, 1]"
_CATEGORY = pa.dictionary(pa.int16(), pa.string())
_ROW_BYTES = 128
_STREAM_BYTES = 4096


@dataclass(frozen=True)
class Rows:
    """The columns of a batch in numpy. N rows; None stands for a column of nulls."""

    images: NDArray[np.uint8]
    """(N, H, W, C)"""
    labels: NDArray[np.int32]
    """(N,)"""
    indices: NDArray[np.int64]
    """(N,) places in the order"""
    generator: NDArray[np.int32]
    """(N,) positions in the order's list of generators"""
    sigma: float
    truncation: float | None = None
    snapshot: int | None = None
    score: NDArray[np.float32] | None = None
    """(N,)"""
    z: NDArray[np.float16] | None = None
    """(N, z_dim), for rows whose latent was mined"""


def batch_schema(image_shape: tuple[int, int, int], class_names: Sequence[str]) -> pa.Schema:
    """The schema for images of (H, W, C)."""
    return pa.schema(
        [
            pa.field("image", pa.fixed_shape_tensor(pa.uint8(), image_shape), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("order", _CATEGORY, nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("generator", _CATEGORY, nullable=False),
            pa.field("generator_sha256", _CATEGORY, nullable=False),
            pa.field("strategy", _CATEGORY, nullable=False),
            pa.field("sigma", pa.float32(), nullable=False),
            pa.field("truncation", pa.float32()),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("snapshot", pa.int64()),
            pa.field("score", pa.float32()),
            pa.field("z", pa.list_(pa.float16())),
        ],
        metadata={
            "nonesuch.schema": SCHEMA_VERSION,
            "nonesuch.class_names": json.dumps(list(class_names)),
            "nonesuch.image_range": IMAGE_RANGE,
        },
    )


def make_batch(
    rows: Rows, *, order: str, seed: int, strategy: str, generators: Sequence["GeneratorInfo"]
) -> pa.RecordBatch:
    """One record batch of the schema from numpy columns. Copies nothing but the small columns."""
    n, *shape = rows.images.shape
    schema = batch_schema((shape[0], shape[1], shape[2]), generators[0].class_names)
    flat = pa.array(np.ascontiguousarray(rows.images).reshape(-1))
    images = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
    which = pa.array(rows.generator.astype(np.int16))

    def category(value: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int16)), pa.array([value]))

    def constant(value: float | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(n, kind) if value is None else pa.repeat(pa.scalar(value, kind), n)

    return pa.record_batch(
        [
            pa.ExtensionArray.from_storage(schema.field("image").type, images),
            pa.array(rows.labels, pa.int32()),
            category(order),
            pa.array(rows.indices, pa.int64()),
            pa.DictionaryArray.from_arrays(which, pa.array([g.id for g in generators])),
            pa.DictionaryArray.from_arrays(which, pa.array([g.sha256 for g in generators])),
            category(strategy),
            constant(rows.sigma, pa.float32()),
            constant(rows.truncation, pa.float32()),
            constant(seed, pa.int64()),
            constant(rows.snapshot, pa.int64()),
            pa.nulls(n, pa.float32()) if rows.score is None else pa.array(rows.score, pa.float32()),
            pa.nulls(n, pa.list_(pa.float16())) if rows.z is None else pa.array(list(rows.z), pa.list_(pa.float16())),
        ],
        schema=schema,
    )


def batch_bytes(info: "GeneratorInfo", rows: int) -> int:
    """An upper bound of the wire form of `rows` images of a generator, mined latents included."""
    h, w, c = info.image_shape
    schema = batch_schema(info.image_shape, info.class_names).serialize().size
    return int(rows * (h * w * c + 2 * info.z_dim + _ROW_BYTES) + schema + _STREAM_BYTES)


def write_batch(batch: pa.RecordBatch) -> bytes:
    """The wire form: an Arrow IPC stream of one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def read_batch(payload: bytes) -> pa.RecordBatch:
    """The batch in an Arrow IPC stream of one batch; no copy. Raises `IntegrityError` for anything else."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            batch = reader.read_next_batch()
    except (pa.ArrowInvalid, StopIteration, OSError) as error:
        raise IntegrityError(f"{len(payload)} bytes are not an Arrow IPC stream of one batch: {error}") from None
    version = (batch.schema.metadata or {}).get(b"nonesuch.schema", b"none").decode()
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"the batch has schema version {version}; this program reads {SCHEMA_VERSION}")
    return batch


def images_of(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8, a read-only view of the batch."""
    images: NDArray[np.uint8] = batch.column("image").to_numpy_ndarray()
    return images


def labels_of(batch: pa.RecordBatch) -> NDArray[np.int32]:
    """(N,) int32, a read-only view of the batch."""
    labels: NDArray[np.int32] = batch.column("label").to_numpy(zero_copy_only=True)
    return labels


def class_names_of(schema: pa.Schema) -> tuple[str, ...]:
    """The class names, by label."""
    return tuple(json.loads(schema.metadata[b"nonesuch.class_names"]))
