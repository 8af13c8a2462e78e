"""TOML files as editors save them: every reader of ours takes a byte order mark, and says what it cannot take."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nonesuch.errors import InvalidValue
from nonesuch_trainer.settings.config import load
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.pretrain.config import PretrainConfig

ROOT = Path(__file__).parents[4]
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "train": (load, (ROOT / "trainer/configs/smoothing.toml").read_text()),
    "pretrain": (PretrainConfig.from_toml, (ROOT / "worker/configs/pretrain-fashion-mnist.toml").read_text()),
    "condition": (ConditionConfig.read, "seed = 7\n"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_changes_nothing(reader: str, tmp_path: Path) -> None:
    read, text = READERS[reader]
    plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
    plain.write_text(text, encoding="utf-8")
    marked.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert read(marked) == read(plain)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a = 1".encode("utf-16"), "is not UTF-8, as TOML is: save it in that encoding"),
        (b"name = 'caf\xe9'", "is not UTF-8, as TOML is"),
        (b"a = ", "is not TOML: "),
        (None, "cannot read the "),
    ],
    ids=["UTF-16", "Latin-1", "no TOML", "no file"],
)
def test_what_cannot_be_read_is_one_line(reader: str, data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InvalidValue, match=words) as refused:
        READERS[reader][0](path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_nobody_else_reads_toml_files() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for root in ("services", "worker", "trainer")
        for path in (ROOT / root).rglob("*.py")
        if re.search(r"tomllib\.loads?\([^\"']*(read_|open|file)", path.read_text())
    ]
    assert found == ["services/nonesuch/host/toml.py"]
