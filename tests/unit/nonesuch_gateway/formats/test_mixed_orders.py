"""Files that others read: one Parquet whoever writes it, and shards of every strategy together."""

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nonesuch
from nonesuch.errors import InvalidOrder
from nonesuch.formats.tables import open_writer
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import Rows, batch_schema, make_batch, write_batch
from nonesuch_gateway.formats import FORMATS, Outline

N = 6
NAMES = ("ant", "bee", "cat")
SCORES = {"score": np.linspace(-2, 2, N, dtype=np.float32)}
LATENTS = [np.array([1 / 3, -i, 6e-8], np.float16) for i in range(N)]
KINDS: dict[str, dict[str, Any]] = {
    "random": {},
    "truncated": {"truncation": 0.42},
    "filtered": {**SCORES, "attempt": np.arange(N, dtype=np.int32)},
    "selected": {**SCORES, "snapshot": 7},
    "mined": {**SCORES, "score_before": SCORES["score"], "flips": np.arange(N, dtype=np.int16), "z": LATENTS},
    "taught": {"soft_labels": np.full((N, 3), 1 / 3, np.float16)},
}
"""Rows as the strategies leave them: each column is null in some orders and not in others."""


def batch_of(kind: str, channels: int = 1) -> pa.RecordBatch:
    info = GeneratorInfo(
        id="ours", family="f", sha256="a" * 64, image_shape=(4, 4, channels), class_names=NAMES, z_dim=3, max_sigma=1.0
    )
    images = np.random.default_rng(0).integers(0, 256, (N, 4, 4, channels), np.uint8)
    labels, indices = np.arange(N, dtype=np.int32) % 3, np.arange(N)
    rows = Rows(images, labels, indices, np.zeros(N, np.int32), **{"sigma": 1.0, **KINDS[kind]})
    return make_batch(rows, order=kind, seed=3, strategy=kind, generators=[info])


def gateway(form: str, batch: pa.RecordBatch) -> bytes:
    writing = FORMATS[form](Outline(N))
    pieces = [bytes(piece) for piece in writing.add(batch)]
    pieces += [bytes(piece) for piece in writing.finish()]
    writing.close()
    return b"".join(pieces)


def save(batch: pa.RecordBatch, path: Path) -> bytes:
    nonesuch.Batch(batch).save(path)
    return path.read_bytes()


def order(batch: pa.RecordBatch, path: Path) -> bytes:
    """What `nonesuch order` does with a batch."""
    with closing(open_writer(path, "parquet", batch.schema)) as writer:
        writer.write_batch(batch)
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", [save, order])
def test_there_is_one_parquet(write, kind: str, tmp_path: Path) -> None:
    assert write(batch_of(kind), tmp_path / "a.parquet") == gateway("parquet", batch_of(kind))


@pytest.mark.parametrize("write", [save, order])
def test_images_that_parquet_cannot_hold_are_refused(write, tmp_path: Path) -> None:
    with pytest.raises(InvalidOrder, match=r"images of 2 channels are no PNGs .* arrow or npz"):
        write(batch_of("random", channels=2), tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_has_the_very_numbers(kind: str) -> None:
    given, found = batch_of(kind), pq.read_table(io.BytesIO(gateway("parquet", batch_of(kind))))
    for name in given.schema.names:
        if name != "image":
            assert found[name].to_pylist() == given.column(name).to_pylist()


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize(("form", "builder", "ending"), [("parquet",) * 3, ("webdataset", "webdataset", "tar")])
def test_datasets_loads_files_of_every_strategy_together(
    datasets: ModuleType, form: str, builder: str, ending: str, first: str, tmp_path: Path
) -> None:
    kinds = [first, *(kind for kind in KINDS if kind != first)]  # the first says what types the fields have
    files = []
    for i, kind in enumerate(kinds):
        files.append(tmp_path / f"{i}.{ending}")
        files[-1].write_bytes(gateway(form, batch_of(kind)))
    found = datasets.load_dataset(
        builder, data_files=[str(file) for file in files], cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert len(found) == N * len(KINDS)
    rows = [row["json"] for row in found] if form == "webdataset" else found.remove_columns("image").to_list()
    for i, kind in enumerate(kinds):
        row, given = rows[i * N + 1], batch_of(kind).slice(1, 1).drop_columns(["image"]).to_pylist()[0]
        assert {name: row[name] for name in given} == (as_json(given) if form == "webdataset" else given)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the `.json` of WebDataset has it, by the rule of docs/api.md."""
    lists, integers = ("z", "soft_label"), ("snapshot", "flips")
    told = {name: -3.4028234663852886e38 if value is None else value for name, value in row.items()}
    told |= {name: -1 for name in integers if row[name] is None}
    return told | {name: base64.b64encode(np.array(row[name] or (), "<f2").tobytes()).decode() for name in lists}


@pytest.mark.parametrize("kind", KINDS)
def test_the_json_of_a_shard_is_strict_and_without_null(kind: str) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    with tarfile.open(fileobj=io.BytesIO(gateway("webdataset", batch_of(kind)))) as shard:
        rows = [json.load(shard.extractfile(m), parse_constant=refuse) for m in shard if m.name.endswith(".json")]
    assert len(rows) == N and all(value is not None for row in rows for value in row.values())
    if kind == "mined":
        found = [np.frombuffer(base64.b64decode(row["z"]), "<f2") for row in rows]
        assert np.array_equal(np.array(found).view(np.uint16), np.array(LATENTS).view(np.uint16))


def test_pandas_reads_latents() -> None:
    frame = pq.read_table(io.BytesIO(gateway("parquet", batch_of("mined")))).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert np.array_equal(np.stack(frame["z"]).astype(np.float16), np.array(LATENTS))


def test_no_column_is_of_half_floats_which_few_read() -> None:
    def kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
        yield kind
        yield from (inner for i in range(kind.num_fields) for inner in kinds(kind.field(i).type))

    for field in batch_schema((4, 4, 1), NAMES):
        assert pa.float16() not in set(kinds(field.type)), field


def test_duckdb_queries_arrow() -> None:
    found = duckdb.from_arrow(pa.ipc.open_stream(write_batch(batch_of("mined"))).read_all())
    assert found.query("found", "select label, count(*), max(len(z)) from found group by 1 order by 1").fetchall() == [
        (label, N // 3, 3) for label in range(3)
    ]
