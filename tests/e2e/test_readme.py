"""What the README shows of HTTP and Python is run as it stands, against a service with the generator that ships."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nonesuch.local.service import LocalService, free_port

pytestmark = pytest.mark.timeout(240)
README = Path(__file__).parents[2] / "README.md"
SHOWN_URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    logs = tmp_path_factory.mktemp("logs")
    with LocalService(logs=logs, port=free_port(), private=True, threads=1, generators=("fashion-mnist",)) as running:
        yield running


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)^## ", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert found, f"the README has no section {title!r}"
    return found[1]


def run(command: list[str], service: LocalService, folder: Path) -> str:
    """Run a command in an empty folder; its standard output."""
    assert service.url
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "NONESUCH_URL": service.url, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_over_http(service: LocalService, tmp_path: Path) -> None:
    shown = [line.removeprefix("    ") for line in section("Over HTTP").splitlines() if line.startswith("    ")]
    script = "\n".join(shown)
    assert script.count("curl") == 3 and SHOWN_URL in script
    assert service.url
    said = run(["bash", "-euc", script.replace(SHOWN_URL, service.url)], service, tmp_path)
    assert "'image', 'label'" in said and '"fashion-mnist"' in said
    assert (tmp_path / "boots.png").read_bytes().startswith(b"\x89PNG")


def test_from_python(service: LocalService, tmp_path: Path) -> None:
    programs = re.findall(r"^```python\n(.*?)^```", section("From Python"), re.DOTALL | re.MULTILINE)
    assert len(programs) == 2
    said = [run([sys.executable, "-c", program], service, tmp_path) for program in programs]
    assert "<Batch of 256 images 28×28×1, 10 classes, seed 7>" in said[0] and said[0].count("64 [") == 15
    assert (tmp_path / "grid.png").exists() and (tmp_path / "shard.tar").stat().st_size > 500 * 512
