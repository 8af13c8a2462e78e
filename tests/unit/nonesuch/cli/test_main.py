"""The `nonesuch` command: its help takes no heavy package, and every entry point leads somewhere."""

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"
HEAVY = ("pydantic", "redis", "numpy", "pyarrow", "httpx", "jsonschema", "torch", "ray", "fastapi", "uvicorn")
ENTRY_POINTS = [
    EntryPoint(name, value, group)
    for group, points in tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"].items()
    if group.startswith("nonesuch.")
    for name, value in points.items()
]


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


@pytest.mark.parametrize("point", ENTRY_POINTS, ids=lambda point: f"{point.group}:{point.name}")
def test_every_entry_point_loads(point: EntryPoint) -> None:
    assert callable(point.load())
