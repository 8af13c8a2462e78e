"""Files are whole, one writer's and strict JSON, and nothing of a killed writer is left."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonesuch.errors import InvalidValue
from nonesuch.host.files import creating, replacing, strict_json, write_atomically, write_json, write_secret

Writing = Callable[[Path], AbstractContextManager[Path]]
SPAWN = multiprocessing.get_context("spawn")
FINITE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("data.parquet", "img[train].npz", "ünï #42.tar", "a.b", ".hidden", "x" * 240)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [replacing, creating])
def test_a_file_is_there_whole_or_not_at_all(write: Writing, name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / name

    def broken() -> None:
        with write(path) as temporary:
            temporary.write_bytes(b"ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        broken()
    assert names(path.parent) == []
    with write(path) as temporary:
        temporary.write_bytes(b"all")
        assert not path.exists()
    assert (names(path.parent), path.read_bytes()) == ([name], b"all")


@given(st.permutations(range(3)))
def test_of_several_the_last_to_end_wins_whole(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    path = tmp_path_factory.mktemp("race") / "file.npz"
    writers = [ExitStack() for _ in order]
    for number, writer in enumerate(writers):
        writer.enter_context(replacing(path)).write_bytes(bytes([number]) * 1000 * (number + 1))
    for number in order:
        writers[number].close()
        assert path.read_bytes() == bytes([number]) * 1000 * (number + 1)
    assert names(path.parent) == ["file.npz"]


def test_what_must_not_be_overwritten_is_refused_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    with creating(path) as temporary:
        temporary.write_bytes(b"first")
        with pytest.raises(InvalidValue, match=r"another process is writing .*file\.npz"), creating(path):
            pass
        with creating(tmp_path / "file") as other:  # whose temporary name begins alike
            other.write_bytes(b"other")
    with pytest.raises(InvalidValue, match="exists: remove it"), creating(path):
        pass

    def overtaken() -> None:
        with creating(tmp_path / "late") as temporary:
            temporary.write_bytes(b"late")
            write_atomically(tmp_path / "late", b"early")

    with pytest.raises(InvalidValue, match="was written by another process meanwhile"):
        overtaken()
    assert (path.read_bytes(), (tmp_path / "late").read_bytes()) == (b"first", b"early")
    assert names(tmp_path) == ["file", "file.npz", "late"]


def hang(path: Path, began: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        began.set()
        signal.pause()


@pytest.mark.parametrize("write", [replacing, creating])
def test_what_a_killed_process_left_is_removed_by_the_next_writer(write: Writing, tmp_path: Path) -> None:
    path, began = tmp_path / "file", SPAWN.Event()
    process = SPAWN.Process(target=hang, args=(path, began))
    process.start()
    assert began.wait(30)
    (alive,) = names(tmp_path)
    write_atomically(path, b"beside it")
    assert names(tmp_path) == [alive, "file"]  # not while it lives
    path.unlink()
    process.kill()
    process.join()
    assert names(tmp_path) == [alive]
    with write(path) as temporary:
        temporary.write_bytes(b"next")
    assert names(tmp_path) == ["file"]


def test_a_secret_is_nobody_elses_at_any_moment_and_other_files_have_the_usual_rights(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_secret(tmp_path / "secret", "ünseen")
        write_json(tmp_path / "card", {"name": "ün"})
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "card").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "secret").read_text() == "ünseen"
    assert json.loads((tmp_path / "card").read_text()) == {"name": "ün"}


def no(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@given(FINITE)
def test_what_json_has_a_word_for_comes_back(document: Any) -> None:
    assert json.loads(strict_json(document, "it"), parse_constant=no) == document


@given(FINITE, st.sampled_from([float("nan"), float("inf"), float("-inf")]))
def test_what_is_not_finite_is_refused_however_deep_it_is(document: Any, wrong: float) -> None:
    with pytest.raises(InvalidValue, match=r"it is no JSON: .*leave out what could not be measured"):
        strict_json({"a": [document, {"b": wrong}]}, "it")


def test_a_file_that_would_be_no_json_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_json(path, {"ratio": 0.5})
    with pytest.raises(InvalidValue, match=r"card\.json is no JSON"):
        write_json(path, {"ratio": float("inf")})
    assert json.loads(path.read_text()) == {"ratio": 0.5}
    assert [p.name for p in tmp_path.iterdir()] == ["card.json"]
