"""The `nonesuch` command: its help takes no heavy package."""

import os
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from nonesuch.cli import main as module
from nonesuch.cli.main import make_app
from nonesuch.host.stopping import Stopped, Terminated

HEAVY = ("pydantic", "redis", "numpy", "pyarrow", "httpx", "jsonschema", "torch", "ray", "fastapi", "uvicorn")


def test_the_application_is_built_without_any_heavy_package() -> None:
    build = (
        "from nonesuch.cli.main import make_app\n"
        "make_app()\n"
        "import sys\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


INTERRUPTIONS = [(KeyboardInterrupt, 130), (Stopped, 130), (Terminated, 143)]


@pytest.mark.parametrize(("error", "code"), INTERRUPTIONS)
@pytest.mark.parametrize("nested", [False, True])
def test_every_command_that_is_interrupted_ends_alike(
    monkeypatch: pytest.MonkeyPatch, error: type[KeyboardInterrupt], code: int, nested: bool
) -> None:
    def interrupted() -> None:
        raise error

    group = typer.Typer()
    group.command("inner")(interrupted)
    group.command("other")(lambda: None)

    class Point:
        name = "work"

        def load(self) -> object:
            return group if nested else interrupted

    monkeypatch.setattr(module, "entry_points", lambda group: [Point()])
    app = make_app()
    app.command("rest")(lambda: None)
    done = CliRunner().invoke(app, ["work", *(["inner"] if nested else [])])
    assert (done.exit_code, done.stderr) == (code, "stopped\n")


WAITING = """
import os, signal, sys, time
from nonesuch.cli import main as module

def waiting() -> None:
    print("waiting", flush=True)
    time.sleep(30)

class Point:
    name = "work"
    def load(self):
        return waiting

class Other(Point):
    name = "rest"

module.entry_points = lambda group: [Point(), Other()]
module.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_what_the_exit_code_says(number: signal.Signals, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING, "work"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "waiting\n"
        os.kill(process.pid, number)
        assert process.wait(30) == code
