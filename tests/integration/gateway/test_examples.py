"""Every file in examples/ runs, as its reader would run it."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import blobs

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def service(redis_url: str, gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The URLs of a service that hosts one generator."""
    one = blobs.WORKER.model_copy(update={"generators": (blobs.INFO,)})
    monkeypatch.setattr(blobs, "WORKER", one)
    with blobs.working(redis_url):
        yield {"http": gateway, "redis": redis_url}


@pytest.fixture
def run(service, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`run("plain_pytorch.py", "redis")`: what it prints, in this process, which has imported torch already."""

    def example(name: str, way: str = "http") -> str:
        monkeypatch.setattr(sys, "argv", [name, service[way]])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capfd.readouterr().out

    return example


@pytest.fixture
def run_apart(service, tmp_path: Path) -> Callable[..., str]:
    """The same as a process of its own, with its caches and temporary files in the test's folder."""
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)}

    def example(name: str, *arguments: str) -> str:
        command = ["sh" if name.endswith(".sh") else sys.executable, str(EXAMPLES / name), service["http"], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return example


def test_plain_pytorch(run) -> None:
    lines = run("plain_pytorch.py").splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1: ")
    assert float(lines[2].split()[2].rstrip("%")) > 90  # blobs are easy
    assert "125 mined" in lines[1] and "at most 2" in lines[2]


def test_lightning_style(run) -> None:
    lines = run("lightning_style.py", "redis").splitlines()
    assert lines[0] == "epoch 0: 250 images replaced, mined 0 versions ago"
    assert len(lines) == 4 and lines[3].startswith("500 images")


def test_load_with_datasets(run_apart) -> None:
    printed = run_apart("load_with_datasets.py")
    assert "num_rows: 200" in printed
    assert "Trouser: (28, 28) pixels, by blobs, seed 7" in printed


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its files to the collector
def test_load_with_webdataset(run) -> None:
    assert run("load_with_webdataset.py").splitlines() == [f"(50, 3, 28, 28), labels {list(range(10))} …"] * 4


def test_curl(run_apart, tmp_path: Path) -> None:
    run_apart("curl.sh", str(tmp_path / "out"))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert set(sizes) == {
        "again.png", "batch.arrows", "batch.json", "batch.npz", "batch.parquet", "batch.png", "batch.tar", "batch.zip",
        "headers", "large.npz",
    }  # fmt: skip
    assert min(sizes.values()) > 0 and sizes["large.npz"] > 1000 * 28 * 28


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names and all(f'"{name}"' in Path(__file__).read_text() for name in names)
