"""Arrow IPC streams in pieces of any size are the batches that pyarrow reads; damage is an error."""

import random
import struct

import numpy as np
import pyarrow as pa
import pytest

from nonesuch.client.exchange.splitting import Splitter
from nonesuch.errors import IntegrityError
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import Rows, make_batch

INFO = GeneratorInfo(
    id="small", family="fake", sha256="a" * 64, image_shape=(4, 4, 1), class_names=("ant", "bee"), z_dim=2
)


def record_batch(rows: int) -> pa.RecordBatch:
    images = np.random.default_rng(rows).integers(0, 256, (rows, 4, 4, 1), np.uint8)
    none = np.zeros(rows, np.int32)
    columns = Rows(images, none, np.arange(rows), none, sigma=1.0, z=[np.ones(2, np.float16)] * rows)
    return make_batch(columns, order="o", seed=7, strategy="random", generators=[INFO])


BATCHES = [record_batch(rows) for rows in (5, 1, 0, 64)]


def stream(compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, BATCHES[0].schema, options=options) as writer:
        for batch in BATCHES:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def split(data: bytes, size: int) -> tuple[list[pa.RecordBatch], Splitter]:
    splitter = Splitter()
    batches = [batch for at in range(0, len(data), size) for batch in splitter.feed(data[at : at + size])]
    return batches, splitter


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("size", [1, 7, 1000, 2**20])
def test_pieces_of_any_size_are_the_same_batches(compression, size):
    batches, splitter = split(stream(compression), size)
    assert splitter.ended
    assert [batch.num_rows for batch in batches] == [5, 1, 0, 64]
    assert all(ours.equals(theirs) for ours, theirs in zip(batches, BATCHES, strict=True))


def test_a_batch_is_there_as_soon_as_its_bytes_are():
    data = stream()
    ends = [at for at in range(len(data)) if len(split(data[:at], 2**20)[0]) > len(split(data[: at - 1], 2**20)[0])]
    assert len(ends) == 4 and ends[-1] == len(data) - 8
    assert not split(data[:-1], 2**20)[1].ended


def test_what_comes_after_the_end_is_no_batch():
    batches, _ = split(stream() + b"\0" * 64, 2**20)
    assert len(batches) == 4


@pytest.mark.parametrize(
    "data", [b"<html>a proxy's page</html>", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"PK\x03\x04" * 9]
)
def test_another_thing_than_a_stream_is_refused_at_once(data):
    with pytest.raises(IntegrityError, match="no Arrow IPC stream"):
        Splitter().feed(data)


def message(kind: int, length: int) -> bytes:
    """The beginning of a message whose body claims to be so long."""
    vtable = struct.pack("<6H", 12, 16, 0, 4, 0, 8)
    table = struct.pack("<iBxxxq", 4 + len(vtable) - 4, kind, length)
    metadata = struct.pack("<I", 4 + len(vtable)) + vtable + table
    return struct.pack("<II", 0xFFFFFFFF, len(metadata)) + metadata


def test_a_length_that_cannot_be_is_refused_before_its_bytes_are_waited_for():
    assert Splitter().feed(message(3, 2**20)) == []
    for length in (-1, 2**40):
        with pytest.raises(IntegrityError, match=f"claims {length} bytes"):
            Splitter().feed(message(3, length))


def test_damage_never_raises_anything_but_an_integrity_error():
    data, random_ = stream(), random.Random(3)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        broken[random_.randrange(2200)] ^= 1 << random_.randrange(8)
        try:
            Splitter().feed(bytes(broken))
        except IntegrityError:
            refused += 1
    assert refused > 100
