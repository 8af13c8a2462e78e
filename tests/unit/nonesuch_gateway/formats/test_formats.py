"""Formats, batch by batch: what depends on the slicing, what is held, and what happens beside the event loop."""

import asyncio
import io
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import aclosing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonesuch.errors import Busy, InvalidOrder, OrderFailed
from nonesuch.formats import parquet
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import Rows, images_of, make_batch
from nonesuch_gateway.formats import FORMATS, Format, Outline, encoded, spool
from nonesuch_gateway.formats.zips import ZipWriter

NAMES = ("T-shirt/top", "../crane", "crane")
COUNT = 60
SLICED_FREELY = sorted(FORMATS.keys() - {"arrow", "parquet"})
"""Their bytes do not depend on how an order is cut into tickets."""


def batches(
    count: int = COUNT, size: int = 16, shape: tuple[int, int, int] = (6, 8, 3), skip: int = 0
) -> Iterator[pa.RecordBatch]:
    """Random images by two generators. With `skip` they are mined, and of each batch so many rows are left out."""
    infos = [
        GeneratorInfo(id=n, family="f", sha256=s * 64, image_shape=shape, class_names=NAMES, z_dim=2, max_sigma=1.0)
        for n, s in (("ours", "a"), ("theirs", "b"))
    ]
    for start in range(0, count, size):
        indices = np.arange(start + skip, min(start + size, count))
        n = len(indices)
        images = np.random.default_rng(start).integers(0, 256, (size, *shape), np.uint8)[indices - start]
        rows = Rows(images, (indices % 3).astype(np.int32), indices, (indices % 2).astype(np.int32), sigma=1.0)
        if skip:
            rows = Rows(
                images, rows.labels, indices, rows.generator, sigma=1.0, snapshot=7, flips=np.ones(n, np.int16),
                z=[np.array([0.5, i], np.float16) for i in range(n)], score=np.full(n, 0.25, np.float32),
            )  # fmt: skip
        yield make_batch(rows, order="recipe", seed=3, strategy="random", generators=infos)


def write(form: Format, parts: Iterator[pa.RecordBatch]) -> bytes:
    """The whole file."""

    async def run() -> bytes:
        async def given():
            for part in parts:
                yield part

        return b"".join([data async for data in encoded(form, given())])

    return asyncio.run(run())


def made(name: str, count: int = COUNT, complete: bool = True, codec: str | None = None, **given: int) -> bytes:
    return write(FORMATS[name](Outline(count, complete, codec)), batches(count, **given))


def tensors() -> np.ndarray:
    return np.concatenate([images_of(batch) for batch in batches()])


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_batches_give_the_same_bytes(name):
    assert made(name) == made(name)


@pytest.mark.parametrize("name", SLICED_FREELY)
def test_other_tickets_of_the_same_rows_give_the_same_bytes(name):
    assert made(name) == write(FORMATS[name](Outline(COUNT)), cut(5))


def cut(size: int) -> Iterator[pa.RecordBatch]:
    for batch in batches():
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_codecs_change_nothing_but_the_size(codec):
    plain, packed = (pa.ipc.open_stream(made("arrow", codec=c)).read_all() for c in (None, codec))
    assert plain.equals(packed, check_metadata=True)
    assert len(made("arrow", codec=codec)) < len(made("arrow"))


def test_parquet_has_every_column_and_row_groups_of_some_size(monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 32)
    file = pq.ParquetFile(io.BytesIO(made("parquet", skip=2)))
    rows = file.read()
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [42, 10]
    assert rows["generator"].to_pylist()[:2] == ["ours", "theirs"] and rows["snapshot"].to_pylist() == [7] * 52
    assert rows["z"].to_pylist()[1] == [0.5, 1.0] and rows["truncation"].null_count == 52
    with Image.open(io.BytesIO(rows["image"][0].as_py()["bytes"])) as image:
        assert np.array_equal(np.asarray(image), tensors()[2])


@pytest.mark.parametrize("complete", [True, False])
def test_npz_has_every_scalar_column(complete):
    with np.load(io.BytesIO(made("npz", complete=complete)), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["images"], tensors())
        assert arrays["labels"].dtype == np.int32 and arrays["labels"].tolist() == [i % 3 for i in range(COUNT)]
        assert arrays["index"].tolist() == list(range(COUNT))
        assert tuple(arrays["class_names"]) == NAMES
        assert arrays["generator_names"][arrays["generator"]].tolist()[:2] == ["ours", "theirs"]
        assert arrays["order_names"].tolist() == ["recipe"] and set(arrays["seed"]) == {3}
        assert set(arrays["snapshot"]) == {-1} and np.isnan(arrays["score"]).all()


def test_npz_of_fewer_rows_than_ordered():
    with np.load(io.BytesIO(made("npz", complete=False, skip=6)), allow_pickle=False) as arrays:
        assert arrays["images"].shape == (COUNT - 24, 6, 8, 3)
        assert np.array_equal(arrays["images"], tensors()[arrays["index"]])
        assert set(arrays["flips"]) == {1} and set(arrays["score"]) == {0.25}


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"png"}))
def test_an_order_of_which_every_image_was_rejected_is_a_file_without_any(name):
    assert made(name, complete=False, skip=16)


def test_zip_folders_are_safe_and_one_for_each_class():
    with zipfile.ZipFile(io.BytesIO(made("zip"))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[:3] == ["0-T-shirt_top/000000000.png", "1-_crane/000000001.png", "2-crane/000000002.png"]
        with Image.open(io.BytesIO(archive.read(names[7]))) as image:
            assert np.array_equal(np.asarray(image), tensors()[7])


@pytest.mark.parametrize("offset", [0, 2**32])
def test_a_zip_beyond_the_limits_of_the_first_zips(offset):
    writer = ZipWriter(offset)
    content = b"".join(writer.member(f"é{i}", b"%d" % i) for i in range(70_000 if offset == 0 else 3))
    content += b"".join(writer.end())
    writer.close()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        last = archive.infolist()[-1].filename
        assert last == ("é69999" if offset == 0 else "é2") and archive.read(last).decode() == last[1:]


def test_json_is_the_shape_that_clients_of_the_images_api_read():
    document = json.loads(made("json", count=3))
    assert document["created"] == 0
    assert [(d["index"], d["label"], d["class"]) for d in document["data"]] == list(
        zip(range(3), range(3), NAMES, strict=True)
    )


def test_a_grid_has_the_images_in_rows():
    with Image.open(io.BytesIO(made("png", count=5))) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2 * 6, 3 * 8, 3)
    assert np.array_equal(pixels[6:12, 8:16], tensors()[4]) and not pixels[6:, 16:].any()


def test_a_grid_of_fewer_rows_has_no_empty_row():
    with Image.open(io.BytesIO(made("png", complete=False, skip=10))) as image:
        assert image.size == (8 * 8, 3 * 6)  # 20 of 60 images in 8 columns


def test_what_a_grid_cannot_hold_is_refused():
    with pytest.raises(InvalidOrder, match=r"1025 images do not fit .* 1024"):
        FORMATS["png"](Outline(1025))
    with pytest.raises(InvalidOrder, match="holds 21 of them"):
        made("png", count=22, shape=(1024, 1024, 3), size=1)
    with pytest.raises(OrderFailed, match="every image was rejected"):
        made("png", complete=False, skip=16)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"arrow", "npz"}))
def test_images_that_no_png_can_hold_are_refused(name):
    with pytest.raises(InvalidOrder, match=r"5 channels .* arrow or npz"):
        made(name, shape=(6, 8, 5))


@pytest.mark.parametrize(("name", "complete"), [*((n, True) for n in FORMATS if n != "png"), ("npz", False)])
def test_memory_does_not_grow_with_the_count(name, complete, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_BYTES", 2**18)
    monkeypatch.setattr(spool, "MEMORY_BYTES", 2**16)
    monkeypatch.setattr(spool, "PIECE_BYTES", 2**16)
    count, shape = 1600, (48, 48, 3)
    form = FORMATS[name](Outline(count, complete))
    written, arrow = 0, 0
    made(name, complete=complete)  # imports and caches
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for batch in batches(count, shape=shape):
            written += sum(len(piece) for piece in form.add(batch))
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        for piece in form.finish():
            written += len(piece)
        form.close()
        peak = tracemalloc.get_traced_memory()[1] + arrow
    finally:
        tracemalloc.stop()
    assert written > 10 * 2**20
    assert peak < 2.5 * 2**20


def test_what_waits_for_the_end_is_a_file_and_is_gone_when_a_format_is_left(monkeypatch):
    monkeypatch.setattr(spool, "MEMORY_BYTES", 1000)
    form = FORMATS["npz"](Outline(COUNT, complete=False))
    opened = []
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **given: opened.append(io.BytesIO()) or opened[-1])

    async def leave() -> None:
        async def given():
            for batch in batches():
                yield batch
            raise Busy("enough")

        async for _ in encoded(form, given()):
            pytest.fail("nothing can be sent yet")

    with pytest.raises(Busy):
        asyncio.run(leave())
    assert opened and all(file.closed for file in opened)


def test_no_room_for_temporary_files_is_told(monkeypatch):
    monkeypatch.setattr(spool, "MEMORY_BYTES", 1000)

    def full(**given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(Busy, match=r"No space left.*format arrow"):
        made("npz", complete=False)


class Slow(Format):
    """Says in which thread it works, and waits there until it may go on."""

    def __init__(self, heavy: bool) -> None:
        self.heavy = heavy
        self.threads: list[int] = []
        self.began, self.go_on = threading.Event(), threading.Event()
        self.log: list[str] = []

    def add(self, batch: pa.RecordBatch) -> list[bytes]:
        self.threads.append(threading.get_ident())
        self.began.set()
        if self.heavy:
            assert self.go_on.wait(10)
        self.log.append("added")
        return [b"x"]

    def finish(self) -> Iterator[bytes]:
        self.threads.append(threading.get_ident())
        yield b""
        yield b"y"

    def close(self) -> None:
        self.log.append("closed")


@pytest.mark.parametrize("heavy", [True, False])
def test_heavy_formats_work_beside_the_event_loop(heavy):
    form = Slow(heavy)
    form.go_on.set()
    assert write(form, batches(2)) == b"xy"
    assert [thread != threading.get_ident() for thread in form.threads] == [heavy, heavy]
    assert form.log == ["added", "closed"]


def test_a_format_is_closed_when_its_thread_has_ended():
    form = Slow(heavy=True)

    async def run() -> None:
        async def given():
            for batch in batches():
                yield batch

        async def read() -> None:
            async with aclosing(encoded(form, given())) as pieces:
                async for _ in pieces:
                    pytest.fail("it was cancelled before")

        reading = asyncio.create_task(read())
        await asyncio.to_thread(form.began.wait, 10)
        for _ in range(3):
            reading.cancel()
            await asyncio.wait({reading}, timeout=0.02)
        assert not reading.done() and form.log == []
        form.go_on.set()
        await asyncio.wait({reading}, timeout=10)
        assert reading.cancelled()

    asyncio.run(run())
    assert form.log == ["added", "closed"]
