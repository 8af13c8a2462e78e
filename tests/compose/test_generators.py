"""A library of one's own generators in containers, as docs/docker.md has it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.helpers.stack import ROOT, Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

PACKAGED = ROOT / "worker/nonesuch_worker/generators/weights/fashion-mnist"


@pytest.fixture
def hosting(built: Stack, tmp_path: Path) -> Iterator[Stack]:
    library = tmp_path / "library"
    command = [sys.executable, "-m", "nonesuch", "generators", "add", str(PACKAGED), "--name", "mine"]
    subprocess.run(command, env={**os.environ, "NONESUCH_LIBRARY": str(library)}, check=True, timeout=120)
    stack = Stack(settings=(("NONESUCH_LIBRARY", str(library)), ("NONESUCH_GENERATORS", "fashion-mnist,mine")))
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_a_generator_of_the_library_is_hosted_by_its_name(hosting: Stack) -> None:
    assert hosting.ready() == {"status": "ready", "workers": 1, "generators": ["fashion-mnist", "mine"]}
    mine, packaged = (
        pa.ipc.open_stream(hosting.mint(count=8, seed=1, generator=name)).read_all()["image"]
        for name in ("mine", "fashion-mnist")
    )
    assert mine.equals(packaged)  # the same weights under another name
