"""What the README shows of containers is run as it stands, but for the port and the name of the project."""

import json
import os
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from nonesuch.local.service import free_port
from tests.helpers.stack import ROOT, Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

SHOWN_PORT = "8000"


def shown() -> list[str]:
    """The lines of the section, without comments."""
    section = re.search(r"^## In containers\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert section
    lines = [line.strip() for line in section[1].splitlines() if line.startswith("    ")]
    return [line.partition("#")[0].strip() for line in lines]


def test_the_lines_of_the_readme(built: Stack, tmp_path: Path) -> None:
    stack = Stack(settings=(("NONESUCH_PORT", str(free_port())),))
    said = {}
    try:
        for line in filter(None, shown()):
            command = line.replace(f":{SHOWN_PORT}/", f":{dict(stack.settings)['NONESUCH_PORT']}/")
            done = subprocess.run(
                ["bash", "-euc", command], cwd=tmp_path, env={**os.environ, **stack.environment()},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            said[line] = done.stdout
    finally:
        stack.down()

    assert [line for line in said if "build" in line] and [line for line in said if "--wait" in line]
    assert pa.ipc.open_stream((tmp_path / "images.arrow").read_bytes()).read_all().num_rows == 256
    [stats] = [text for line, text in said.items() if "/v1/stats" in line]
    assert len(json.loads(stats)["workers"]) == 3
    [trained] = [text for line, text in said.items() if "smoothing-hsm" in line]
    assert re.search(r"\d\d\.\d\d % on 10,000 images of fashion-mnist/test", trained), trained
