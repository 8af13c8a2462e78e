"""The one Arrow schema: ring, REST, Parquet and files all carry it.

A row is an image, its label, and where it came from, so that the image can be made again: generator and sha256,
strategy, σ, truncation, order seed, index and attempt (which of the index's latents), and for mined rows the latent
itself. Truncation t means z = t · truncnorm(−2, 2), as in pytorch-pretrained-biggan; null means z ~ N(0, σ²I).

σ and truncation are float64, the very numbers that were ordered: rounded, they would make other images. Latents and
soft labels are float32 lists of numbers that float16 holds too, because DuckDB and others read no lists of halves.

Version 2 had σ and truncation as float32, and latents and soft labels as float16. What is of it is still read, by
`upgraded`; its σ and truncation stay as they were rounded.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.labels import distinct_names
from nonesuch.ledger import NO_USES, Ledger
from nonesuch.offers import GeneratorInfo, ledger_of_generators

SCHEMA_VERSION = "3"
PREVIOUS_VERSION = "2"
"""The older version that is still read."""
IMAGE_RANGE = "uint8 0..255 is round((x + 1) * 127.5) of x in [-1, 1]"
ENDINGS: Mapping[str, str] = {
    ".arrows": "arrow",
    ".arrow": "arrow-file",
    ".parquet": "parquet",
    ".npz": "npz",
    ".tar": "webdataset",
    ".zip": "zip",
    ".png": "png",
    ".json": "json",
}
"""The format that a file's ending names, wherever images are written: `.arrows` is Arrow's IPC stream, `.arrow` its IPC
file."""
_CATEGORY = pa.dictionary(pa.int16(), pa.string())
_NUMBERS = pa.list_(pa.float32())
_ROW_BYTES = 128
_STREAM_BYTES = 8192


@dataclass(frozen=True)
class Rows:
    """The columns of a batch in numpy. N rows; None stands for a column of nulls."""

    images: NDArray[np.uint8]
    """(N, H, W, C) the images"""
    labels: NDArray[np.int32]
    """(N,) the labels"""
    indices: NDArray[np.int64]
    """(N,) places in the order"""
    generator: NDArray[np.int32]
    """(N,) positions in the order's list of generators"""
    sigma: float
    truncation: float | None = None
    snapshot: int | None = None
    attempt: NDArray[np.int32] | None = None
    """(N,) which of the index's latents it is; None is the first, 0, throughout"""
    score: NDArray[np.float32] | None = None
    """(N,) what the strategy's classifier said of the image, in the strategy's own terms"""
    score_before: NDArray[np.float32] | None = None
    """(N,) the same of the image that it started from"""
    flips: NDArray[np.int16] | None = None
    """(N,) how often the predicted class changed while it was mined"""
    z: Sequence[NDArray[np.float16]] | None = None
    """N latents, each (z_dim,) of its generator, for mined rows; the image is of these very numbers, so
    it can be made again without the snapshot"""
    soft_labels: NDArray[np.float16] | None = None
    """(N, K) the teacher's probabilities"""


def batch_schema(image_shape: tuple[int, int, int], class_names: Sequence[str], ledger: Ledger = NO_USES) -> pa.Schema:
    """The schema for images of (H, W, C). Its metadata says what real information stands behind them."""
    return pa.schema(
        [
            pa.field("image", pa.fixed_shape_tensor(pa.uint8(), image_shape), nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("order", _CATEGORY, nullable=False),
            pa.field("index", pa.int64(), nullable=False),
            pa.field("generator", _CATEGORY, nullable=False),
            pa.field("generator_sha256", _CATEGORY, nullable=False),
            pa.field("strategy", _CATEGORY, nullable=False),
            pa.field("sigma", pa.float64(), nullable=False),
            pa.field("truncation", pa.float64()),
            pa.field("seed", pa.int64(), nullable=False),
            pa.field("attempt", pa.int32(), nullable=False),
            pa.field("snapshot", pa.int64()),
            pa.field("score", pa.float32()),
            pa.field("score_before", pa.float32()),
            pa.field("flips", pa.int16()),
            pa.field("z", _NUMBERS),
            pa.field("soft_label", _NUMBERS),
        ],
        metadata={
            "nonesuch.schema": SCHEMA_VERSION,
            "nonesuch.class_names": json.dumps(list(class_names)),
            "nonesuch.image_range": IMAGE_RANGE,
            "nonesuch.ledger": ledger.model_dump_json(),
        },
    )


def make_batch(
    rows: Rows,
    *,
    order: str,
    seed: int,
    strategy: str,
    generators: Sequence[GeneratorInfo],
    ledger: Ledger | None = None,
) -> pa.RecordBatch:
    """One record batch of the schema from numpy columns. Copies nothing but the small columns.

    `ledger` is the batch's; None is that of the generators.

    Raises `InvalidValue` for a number that is not finite: it names the column and the index.
    """
    _require_finite(rows)
    n, *shape = rows.images.shape
    schema = batch_schema(
        (shape[0], shape[1], shape[2]),
        generators[0].class_names,
        ledger_of_generators(generators) if ledger is None else ledger,
    )
    flat = pa.array(np.ascontiguousarray(rows.images).reshape(-1))
    images = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
    which = pa.array(rows.generator.astype(np.int16))

    def category(value: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int16)), pa.array([value]))

    def constant(value: float | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(n, kind) if value is None else pa.repeat(pa.scalar(value, kind), n)

    def optional(column: NDArray[Any] | None, kind: pa.DataType) -> pa.Array:
        return pa.nulls(n, kind) if column is None else pa.array(column, kind)

    def lists(column: Sequence[NDArray[np.float16]] | NDArray[np.float16] | None) -> pa.Array:
        return (
            pa.nulls(n, _NUMBERS) if column is None else pa.array([row.astype(np.float32) for row in column], _NUMBERS)
        )

    return pa.record_batch(
        [
            pa.ExtensionArray.from_storage(schema.field("image").type, images),
            pa.array(rows.labels, pa.int32()),
            category(order),
            pa.array(rows.indices, pa.int64()),
            pa.DictionaryArray.from_arrays(which, pa.array([g.id for g in generators])),
            pa.DictionaryArray.from_arrays(which, pa.array([g.sha256 for g in generators])),
            category(strategy),
            constant(rows.sigma, pa.float64()),
            constant(rows.truncation, pa.float64()),
            constant(seed, pa.int64()),
            constant(0, pa.int32()) if rows.attempt is None else pa.array(rows.attempt, pa.int32()),
            constant(rows.snapshot, pa.int64()),
            optional(rows.score, pa.float32()),
            optional(rows.score_before, pa.float32()),
            optional(rows.flips, pa.int16()),
            lists(rows.z),
            lists(rows.soft_labels),
        ],
        schema=schema,
    )


def _require_finite(rows: Rows) -> None:
    for name in ("score", "score_before", "z", "soft_labels"):
        column = getattr(rows, name)
        for index, values in zip(rows.indices, column if column is not None else (), strict=False):
            if not np.isfinite(values).all():
                raise InvalidValue(
                    f"{name} of index {index} is not finite: strategy, generator or classifier overflows there"
                )


def batch_bytes(info: GeneratorInfo, rows: int) -> int:
    """An upper bound of the wire form of `rows` images of a generator, mined latents and soft labels included."""
    h, w, c = info.image_shape
    schema = batch_schema(info.image_shape, info.class_names).serialize().size
    variable = 4 * info.z_dim + 4 * len(info.class_names)
    return int(rows * (h * w * c + variable + _ROW_BYTES) + schema + _STREAM_BYTES)


def write_batch(batch: pa.RecordBatch) -> bytes:
    """The wire form: an Arrow IPC stream of one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def read_batch(payload: bytes) -> pa.RecordBatch:
    """The batch in an Arrow IPC stream of one batch; no copy unless it is of the previous version of the schema.

    Raises `IntegrityError` for anything else.
    """
    try:
        with pa.ipc.open_stream(payload) as reader:
            batch = reader.read_next_batch()
    except (pa.ArrowInvalid, StopIteration, OSError) as error:
        raise IntegrityError(f"{len(payload)} bytes are not an Arrow IPC stream of one batch: {error}") from None
    return upgraded(batch)


def upgraded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself, or one of the previous version with the types of this one: σ, truncation, latents and soft
    labels are wider then, and their values the same. Raises `IntegrityError` for other versions.
    """
    version = (batch.schema.metadata or {}).get(b"nonesuch.schema", b"none").decode()
    if version == SCHEMA_VERSION:
        return batch
    if version != PREVIOUS_VERSION:
        raise IntegrityError(
            f"the batch has schema version {version}; this program reads {PREVIOUS_VERSION} and {SCHEMA_VERSION}"
        )
    kinds = {"sigma": pa.float64(), "truncation": pa.float64(), "z": _NUMBERS, "soft_label": _NUMBERS}
    fields = [field.with_type(kinds.get(field.name, field.type)) for field in batch.schema]
    return batch.cast(pa.schema(fields, {**batch.schema.metadata, b"nonesuch.schema": SCHEMA_VERSION.encode()}))


def images_of(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8, a read-only view of the batch."""
    images: NDArray[np.uint8] = batch.column("image").to_numpy_ndarray()
    return images


def labels_of(batch: pa.RecordBatch) -> NDArray[np.int32]:
    """(N,) int32, a read-only view of the batch."""
    labels: NDArray[np.int32] = batch.column("label").to_numpy(zero_copy_only=True)
    return labels


def indices_of(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """(N,) int64, a read-only view of the batch."""
    indices: NDArray[np.int64] = batch.column("index").to_numpy(zero_copy_only=True)
    return indices


def class_names_of(schema: pa.Schema) -> tuple[str, ...]:
    """The class names, by label, each of them once (`labels.distinct_names`)."""
    return _parsed_names(schema.metadata[b"nonesuch.class_names"])


@lru_cache(maxsize=8)
def _parsed_names(data: bytes) -> tuple[str, ...]:
    return distinct_names(json.loads(data))


def soft_labels_of(batch: pa.RecordBatch) -> NDArray[np.float16] | None:
    """(N, K) float16, the teacher's probabilities; None if the order asked for none."""
    column = batch.column("soft_label")
    if column.null_count:
        return None
    flat: NDArray[np.float16] = column.flatten().to_numpy().astype(np.float16)  # exact: they were made as such
    return flat.reshape(batch.num_rows, -1) if batch.num_rows else None


def ledger_of(schema: pa.Schema) -> Ledger:
    """The real information behind a batch or a file."""
    return Ledger.model_validate_json(schema.metadata[b"nonesuch.ledger"])


def format_of(path: Path, formats: Collection[str]) -> str:
    """The one of `formats` that a file's ending names. Raises `InvalidValue` with the endings that do."""
    named = ENDINGS.get(path.suffix.lower())
    if named is None or named not in formats:
        known = ", ".join(ending for ending, form in ENDINGS.items() if form in formats)
        raise InvalidValue(f"{path} ends in none of {known}: the ending chooses the format", field="path")
    return named


def ending_of(form: str) -> str:
    """The ending of files of a format, with its dot."""
    return next(ending for ending, named in ENDINGS.items() if named == form)
