"""`nonesuch node`, with a stand-in for `ray start`: what it is asked for, and how both end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nonesuch.host.cores import available_cores
from nonesuch_worker.settings import OBJECT_STORE_BYTES

RAY = """#!/bin/sh
echo "$@" > "$0.arguments"
trap 'kill %1; exit 1' TERM  # as `ray start --block` does
[ ! -e "$0.fails" ] || exit 3
sleep 30 & wait
"""
COMMAND = (
    "import sys, typer; sys.executable = sys.argv.pop(1); "
    "from nonesuch_worker.fleet.node_cli import node; typer.run(node)"
)


@pytest.fixture
def ray(tmp_path: Path) -> Path:
    """A folder with a `python` that only names it, and a `ray` beside."""
    path = tmp_path / "ray"
    path.write_text(RAY)
    path.chmod(0o755)
    return path


def start(ray: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, str(ray.with_name("python")), "--address", "head:6379"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def test_it_joins_and_ends_with_0_when_it_is_told_to(ray: Path) -> None:
    with start(ray) as process:
        arguments = ray.with_name("ray.arguments")
        end = time.monotonic() + 20
        while not (arguments.exists() and arguments.read_text()):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert arguments.read_text().split() == [
        "start",
        "--block",
        "--disable-usage-stats",
        "--address=head:6379",
        f"--num-cpus={available_cores()}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
    ]


def test_it_ends_with_1_when_ray_does(ray: Path) -> None:
    ray.with_name("ray.fails").touch()
    with start(ray) as process:
        assert process.stderr is not None
        assert process.wait(20) == 1
        assert "ray start ended with code 3" in process.stderr.read()
