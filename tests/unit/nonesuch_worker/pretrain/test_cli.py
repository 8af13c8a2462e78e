"""`nonesuch pretrain`: messages, and the ranking of what a run has exported."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nonesuch import plugins
from nonesuch.errors import InvalidValue
from nonesuch_worker.pretrain import cli, loop
from tests.helpers.tiny_gan import TINY

Invoke = Callable[..., str]


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    for name in ("1000", "2000"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run the command, with another function in the place of the training, and return its output."""

    def call(result: Path, *options: str) -> str:
        monkeypatch.setattr(loop, "pretrain", lambda *args, **kwargs: result)
        app = typer.Typer()
        app.command()(cli.pretrain)
        done = CliRunner().invoke(app, ["--out", str(tmp_path), *options])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    return call


def install(monkeypatch: pytest.MonkeyPatch, ranking: Callable[[Path], Path] | None) -> None:
    """Register a ranking, or none."""
    monkeypatch.setattr(plugins, "names", lambda group: ("exports",) if ranking else ())
    if ranking is not None:
        monkeypatch.setattr(
            plugins, "plugin", lambda group, name: {("nonesuch.rankings", "exports"): ranking}[group, name]
        )


def test_a_complete_run_is_ranked_where_a_ranking_is_installed(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke, exports: Path
) -> None:
    asked: list[Path] = []

    def ranking(folder: Path) -> Path:
        asked.append(folder)
        return folder / "1000"

    install(monkeypatch, ranking)
    assert invoke(exports / "2000").split() == [str(exports / "2000"), "best:", str(exports / "1000")]
    assert asked == [exports]
    assert invoke(exports / "2000", "--no-rank").split() == [str(exports / "2000")]
    with pytest.raises(SystemExit, match="130"):
        invoke(exports.parent / "checkpoint.safetensors")
    assert asked == [exports], "nothing is ranked before the end"


def test_a_ranking_that_is_asked_for_and_missing_is_missed_before_the_training(
    monkeypatch: pytest.MonkeyPatch, invoke: Invoke, exports: Path
) -> None:
    install(monkeypatch, None)
    assert invoke(exports / "2000").split() == [str(exports / "2000")]
    monkeypatch.setattr(cli, "RANKING", "no-such-ranking")
    with pytest.raises(InvalidValue, match="'no-such-ranking' is registered in the entry-point group"):
        invoke(exports / "2000", "--rank")


def test_only_torchrun_s_first_process_speaks(monkeypatch: pytest.MonkeyPatch, invoke: Invoke, exports: Path) -> None:
    install(monkeypatch, None)
    monkeypatch.setenv("RANK", "1")
    assert invoke(exports / "2000") == ""


def test_a_recipe_s_data_reach_the_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[object, ...]] = []
    real = object()

    def read(source: str, split: str, **options: object) -> object:
        asked.append((source, split, options))
        return real

    monkeypatch.setattr(loop, "read_labelled", read)
    monkeypatch.setattr(loop, "train", lambda config, images, out, resume: tmp_path if images is real else None)
    config = TINY.model_copy(update={"data": "pictures", "validation_per_class": 3})
    assert loop.pretrain(config, tmp_path, data_folder=tmp_path) == tmp_path
    options = {"image_shape": (8, 8, 2), "validation_per_class": 3, "folder": tmp_path}
    assert asked == [("pictures", "train", options)]


def test_the_command_ends_with_a_message_not_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nonesuch", "pretrain", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
