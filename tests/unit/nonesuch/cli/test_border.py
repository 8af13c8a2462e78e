"""No traceback reaches the user of a command: whatever ends it is a line with a remedy."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import nonesuch_worker
from nonesuch.cli import main as border
from nonesuch.errors import GeneratorNotFound, InvalidValue

TRAIN = """run = "small"
epochs = 1
batch_size = 4
[classifier]
architecture = "resnet18"
args = { width = 8 }
[dataset]
kind = "real"
data = "data"
size = 16
[evaluate]
data = "data"
split = "validation"
"""
PRETRAIN = """name = "small"
data = "data"
iterations = 1
batch = 4
decay_iterations = 0
standing_batches = 1
standing_batch = 4
precision = "float32"
[generator]
image_size = 20
channels = 3
classes = 2
z_dim = 8
embedding_dim = 4
widths = [16, 8]
[discriminator]
widths = [8, 16]
"""
WRITING = {
    "train": "train t.toml --fresh --set out={}/run",
    "pretrain": "pretrain p.toml --out {}/pre --no-rank",
    "adapt": "adapt done data --out {}/a.safetensors",
    "acceptance": "acceptance counts.json {}/a.png",
    "up": "up --logs {}/logs",
    "demo": "demo --out {}/demo",
    "init": "init --folder {}/secrets",
    "token": "token create me --file {}/tokens.json",
    "generators": "generators add generator --name small",
}
"""Commands that write where they are told to, or into the library."""
LARGE = ("train", "pretrain", "adapt", "acceptance", "generators")
"""Those that write more than a small file."""


def said(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of a command in this process, and what it says on stderr."""
    monkeypatch.setattr(sys, "argv", ["nonesuch", *command.split()])
    monkeypatch.setattr(border.signal, "signal", lambda *given: None)
    with pytest.raises(SystemExit) as ended:
        border.main()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InvalidValue("the value: the remedy"), 2, "nonesuch: the value: the remedy\n"),
        (GeneratorNotFound("no generator 'a[b]'"), 1, "nonesuch: no generator 'a[b]'\n"),
        (PermissionError(13, "Permission denied", "a[b]"), 1, "Permission denied: 'a[b]': choose another place"),
        (OSError(28, "No space left on device"), 1, "No space left on device: make room"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB. Take a smaller"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "not enough memory: CUDA out of memory"),
        (RuntimeError("two\nlines"), 1, "nonesuch: RuntimeError: two lines. This was not foreseen"),
        (ZeroDivisionError(), 1, "nonesuch: ZeroDivisionError: ZeroDivisionError. This was not foreseen"),
        (ModuleNotFoundError("", name="torch.nn"), 1, "torch.nn is not installed: pip install 'nonesuch[worker]' to"),
        (ModuleNotFoundError("", name="ray"), 1, "ray is not installed: pip install 'nonesuch[worker]'\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
@pytest.mark.parametrize("verbose", [False, True])
def test_what_is_left_is_a_line_with_a_remedy(
    error: Exception,
    code: int,
    words: str,
    verbose: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise error

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(fail)
    monkeypatch.setattr(border, "make_app", lambda: app)
    with caplog.at_level(logging.DEBUG if verbose else logging.INFO):
        found = said("", monkeypatch, capsys)
    assert found[0] == code and words in found[1] and "Traceback" not in found[1]
    assert ("Traceback" in caplog.text) == verbose


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the commands read, which is the current one."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(20):
            picture = Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8))
            picture.save(folder / "data" / name / f"{number}.png")
    (folder / "t.toml").write_text(TRAIN)
    (folder / "p.toml").write_text(PRETRAIN)
    (folder / "counts.json").write_text('\ufeff{"counters": {"tried:0": 3}, "class_names": ["cat", "dog"]}')
    (folder / "generator").symlink_to(Path(nonesuch_worker.__file__).parent / "generators/weights/fashion-mnist")
    (folder / "file").write_text("")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("NONESUCH_REDIS_URL", "redis://127.0.0.1:1/0")
        patch.setattr(sys, "argv", ["nonesuch", *["train", "t.toml", "--set", "out=done"]])
        with pytest.raises(SystemExit) as ended:
            border.main()
        assert not ended.value.code
        yield folder


@pytest.mark.parametrize("place", ["/proc/none", "file"])
@pytest.mark.parametrize("command", WRITING)
def test_a_place_that_cannot_be_written(
    command: str, place: str, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NONESUCH_LIBRARY", place)
    code, err = said(WRITING[command].format(place), monkeypatch, capsys)
    (line,) = [line for line in err.splitlines() if line.startswith("nonesuch: ")]
    assert code == 1 and f"nonesuch: {place}" in line and "cannot be written" in line and "; choose another" in line


@pytest.mark.parametrize("command", LARGE)
def test_a_disk_that_is_full(
    command: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small_files: None,
) -> None:
    monkeypatch.setenv("NONESUCH_LIBRARY", str(tmp_path))
    code, err = said(WRITING[command].format(tmp_path), monkeypatch, capsys)
    (line,) = [line for line in err.splitlines() if line.startswith("nonesuch: ")]
    assert code == 1 and f"nonesuch: {tmp_path}" in line and "cannot be written: File too large; raise" in line
