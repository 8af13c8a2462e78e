"""A file that cannot be written is one error with the remedy, whichever library tried."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image

from nonesuch.errors import InvalidValue, NotWritable
from nonesuch.host.files import creating, locked, replacing, write_json, write_secret
from nonesuch.host.writing import writing

DATA = np.zeros(100_000, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: path.write_bytes(DATA.tobytes()),
    "text": lambda path: path.write_text("x" * 100_000),
    "npz": lambda path: np.savez(path.with_suffix(".npz"), data=DATA),
    "safetensors of numpy": lambda path: safetensors.numpy.save_file({"a": DATA}, path),
    "safetensors of torch": lambda path: safetensors.torch.save_file({"a": torch.from_numpy(DATA)}, path),
    "parquet": lambda path: pq.write_table(pa.table({"a": NOISE.ravel()}), path),
    "arrow": lambda path: _arrow(path),
    "png": lambda path: Image.fromarray(NOISE).save(path, "PNG"),
}


def _arrow(path: Path) -> None:
    table = pa.table({"a": DATA})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_room_is_one_line_whoever_writes(write: Callable[[Path], object], tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "file"

    def go() -> None:
        with replacing(path) as temporary:
            write(temporary)

    with pytest.raises(NotWritable, match="file cannot be written: File too large; raise the limit"):
        go()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/none/file", "/dev/null/file"])
def test_a_place_that_cannot_be_written_is_named_with_the_remedy(place: str) -> None:
    path = Path(place)
    writers: list[Callable[[], object]] = [
        lambda: write_json(path, {}),
        lambda: write_secret(path, "secret"),
        lambda: creating(path).__enter__(),
        lambda: locked(path).__enter__(),
    ]
    for write in writers:
        with pytest.raises(NotWritable, match=f"^{path} cannot be written: .*; choose another place"):
            write()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; choose another place"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; .*rights"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "No space left on device; make room"),
        (RuntimeError("Error writing bytes. Detail: [errno 122] Disk quota"), "Disk quota exceeded; make room"),
    ],
    ids=str,
)
def test_the_number_of_an_error_says_what_to_do(error: Exception, words: str) -> None:
    with pytest.raises(NotWritable, match=f"^here cannot be written: {words}"), writing(Path("here")):
        raise error


@pytest.mark.parametrize("error", [InvalidValue("ours"), ValueError("a bug"), ConnectionResetError(104, "a peer")])
def test_what_says_nothing_about_a_file_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, writing(Path("here")):
        raise error
    assert raised.value is error
