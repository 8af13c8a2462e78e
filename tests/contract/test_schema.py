"""The Arrow schema: what is written is what is read, here and by anybody's pyarrow."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.offers import GeneratorInfo, ledger_of_generators
from nonesuch.schema import (
    Rows,
    batch_bytes,
    batch_schema,
    class_names_of,
    images_of,
    labels_of,
    ledger_of,
    make_batch,
    read_batch,
    soft_labels_of,
    write_batch,
)
from tests.helpers.fakes import INFO


def rows(n: int, shape: tuple[int, int, int] = (4, 4, 1), z_dim: int | None = None) -> Rows:
    rng = np.random.default_rng(n)
    return Rows(
        images=rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        labels=rng.integers(0, 3, n, dtype=np.int32),
        indices=np.arange(100, 100 + n),
        generator=np.zeros(n, np.int32),
        sigma=1.0,
        truncation=0.5 if z_dim else None,
        snapshot=7 if z_dim else None,
        attempt=rng.integers(0, 9, n, dtype=np.int32) if z_dim else None,
        score=rng.random(n, dtype=np.float32) if z_dim else None,
        score_before=rng.random(n, dtype=np.float32) if z_dim else None,
        flips=rng.integers(0, 3, n, dtype=np.int16) if z_dim else None,
        z=list(rng.standard_normal((n, z_dim)).astype(np.float16)) if z_dim else None,
        soft_labels=rng.random((n, 3)).astype(np.float16) if z_dim else None,
    )


def batch(given_rows: Rows, info: GeneratorInfo = INFO) -> pa.RecordBatch:
    return make_batch(given_rows, order="o", seed=2**62, strategy="random", generators=[info])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", ["score", "score_before", "z", "soft_labels"])
def test_no_row_has_a_number_that_is_not_finite(column: str, value: float) -> None:
    """Whoever writes it as JSON, a plug-in's strategy too, could not."""
    given_rows = rows(5, z_dim=2)
    wrong = np.array(getattr(given_rows, column))
    wrong[3] = value
    with pytest.raises(InvalidValue, match=f"{column} of index 103 is not finite"):
        batch(replace(given_rows, **{column: wrong}))


@pytest.mark.parametrize("z_dim", [None, 2])
def test_a_batch_survives_the_wire(z_dim: int | None) -> None:
    given_rows = rows(5, z_dim=z_dim)
    back = read_batch(write_batch(batch(given_rows)))
    back.validate(full=True)
    np.testing.assert_array_equal(images_of(back), given_rows.images)
    np.testing.assert_array_equal(labels_of(back), given_rows.labels)
    ledger = ledger_of_generators([INFO])
    assert back.schema.equals(batch_schema((4, 4, 1), INFO.class_names, ledger), check_metadata=True)
    assert ledger_of(back.schema) == ledger
    assert class_names_of(back.schema) == INFO.class_names
    row = back.slice(3, 1).to_pylist()[0]
    assert (row["order"], row["index"], row["seed"], row["generator"]) == ("o", 103, 2**62, "fake")
    assert row["snapshot"] == (7 if z_dim else None)
    assert (row["z"] is None) == (z_dim is None)
    if given_rows.z is not None:
        np.testing.assert_array_equal(np.array(back.column("z").to_pylist(), np.float16), given_rows.z)
        np.testing.assert_array_equal(soft_labels_of(back), given_rows.soft_labels)
        for name in ("attempt", "score", "score_before", "flips"):
            np.testing.assert_array_equal(back.column(name).to_numpy(), getattr(given_rows, name))
    else:
        assert soft_labels_of(back) is None
        assert back.column("attempt").to_pylist() == [0] * 5


def test_a_mixture_names_the_generator_of_each_row() -> None:
    other = INFO.model_copy(update={"id": "other", "sha256": "1" * 64})
    mixed = Rows(**{**vars(rows(3)), "generator": np.array([0, 1, 0], np.int32)})
    made = make_batch(mixed, order="o", seed=0, strategy="mixture", generators=[INFO, other])
    assert made.column("generator").to_pylist() == ["fake", "other", "fake"]
    assert made.column("generator_sha256").to_pylist()[1] == "1" * 64


@given(st.integers(1, 70), st.sampled_from([(1, 1, 1), (4, 4, 1), (7, 5, 3)]), st.sampled_from([None, 1, 128]))
def test_the_bound_on_its_size_holds(n: int, shape: tuple[int, int, int], z_dim: int | None) -> None:
    info = INFO.model_copy(update={"image_shape": shape, "z_dim": z_dim or 1})
    assert len(write_batch(batch(rows(n, shape, z_dim), info))) <= batch_bytes(info, n)


def test_it_survives_parquet_with_its_type_and_metadata() -> None:
    file = io.BytesIO()
    written = pa.Table.from_batches([batch(rows(5, z_dim=2))])
    pq.write_table(written, file)
    table = pq.read_table(file)
    assert table.equals(written)
    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (4, 4, 1))
    assert json.loads(table.schema.metadata[b"nonesuch.class_names"]) == ["ant", "bee", "cat"]


def test_latents_of_generators_of_several_lengths_share_a_batch() -> None:
    ragged = Rows(**{**vars(rows(2)), "z": [np.ones(2, np.float16), np.ones(5, np.float16)]})
    assert [len(z) for z in read_batch(write_batch(batch(ragged))).column("z").to_pylist()] == [2, 5]


def test_a_batch_that_could_not_be_filled_has_no_rows() -> None:
    empty = batch(rows(0, z_dim=2))
    back = read_batch(write_batch(empty))
    assert back.num_rows == 0 and images_of(back).shape == (0, 4, 4, 1)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff\xff\xff\xff\x10\x00\x00\x00"])
def test_what_is_not_a_batch_is_refused(damage: bytes) -> None:
    with pytest.raises(IntegrityError, match="not an Arrow IPC stream"):
        read_batch(damage)


def test_a_truncated_batch_is_refused() -> None:
    wire = write_batch(batch(rows(5)))
    with pytest.raises(IntegrityError):
        read_batch(wire[: len(wire) // 2])


def of_version_2(given_rows: Rows) -> pa.RecordBatch:
    """The batch as version 2 of the schema had it: σ and truncation rounded, latents and soft labels in float16."""
    made = batch(given_rows)
    halves, single = pa.list_(pa.float16()), pa.float32()
    kinds = {"sigma": single, "truncation": single, "z": halves, "soft_label": halves}
    fields = [field.with_type(kinds.get(field.name, field.type)) for field in made.schema]
    return made.cast(pa.schema(fields, {**made.schema.metadata, b"nonesuch.schema": b"2"}), safe=False)


@pytest.mark.parametrize("z_dim", [None, 2])
@pytest.mark.parametrize("n", [0, 5])
def test_the_previous_version_is_read_as_this_one(n: int, z_dim: int | None) -> None:
    old, new = of_version_2(rows(n, z_dim=z_dim)), batch(rows(n, z_dim=z_dim))
    assert old.schema.field("sigma").type == pa.float32() and old.schema.field("z").type == pa.list_(pa.float16())
    back = read_batch(write_batch(old))
    back.validate(full=True)
    assert back.equals(new, check_metadata=True)  # its σ and truncation are float32 numbers, and so the same


@pytest.mark.parametrize(("sigma", "truncation"), [(1.2, None), (1.0, 0.42), (1 / 3, None), (1.0, 1e-9)])
def test_sigma_and_truncation_are_the_very_numbers(sigma: float, truncation: float | None) -> None:
    given_rows = Rows(**{**vars(rows(2)), "sigma": sigma, "truncation": truncation})
    back = read_batch(write_batch(batch(given_rows)))
    assert back.column("sigma").to_pylist() == [sigma] * 2 and back.column("truncation").to_pylist() == [truncation] * 2


def test_every_bit_of_a_latent_is_kept() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    given_rows = Rows(**{**vars(rows(1)), "z": [every[np.isfinite(every)]]})
    (z,) = read_batch(write_batch(batch(given_rows))).column("z")
    assert np.array_equal(np.array(z.as_py(), np.float16).view(np.uint16), every[np.isfinite(every)].view(np.uint16))


def test_another_schema_version_is_refused() -> None:
    old = batch(rows(5)).replace_schema_metadata({"nonesuch.schema": "0"})
    with pytest.raises(IntegrityError, match="schema version 0; this program reads 2 and 3"):
        read_batch(write_batch(old))
