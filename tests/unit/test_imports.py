"""Who may import whom (design: gateway | worker | trainer → nonesuch, never sideways), and how lightly."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "nonesuch": ROOT / "services/nonesuch",
    "nonesuch_gateway": ROOT / "services/nonesuch_gateway",
    "nonesuch_worker": ROOT / "worker/nonesuch_worker",
    "nonesuch_trainer": ROOT / "trainer/nonesuch_trainer",
}
FORBIDDEN = {
    "nonesuch": {"ray", "fastapi", "uvicorn"},
    "nonesuch_gateway": {"ray", "torch"},
    "nonesuch_worker": {"fastapi", "uvicorn"},
    "nonesuch_trainer": {"ray", "fastapi", "uvicorn"},
}
ALLOWED = {("trainer/nonesuch_trainer/bna/spreading.py", "ray")}
"""The trainer runs without Ray; spreading an adaptation over a cluster is all that it wants it for, and when asked."""


def imported(file: Path) -> Iterator[str]:
    """The top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", SOURCES)
def test_packages_import_nonesuch_and_never_each_other(package: str) -> None:
    files = list(SOURCES[package].rglob("*.py"))
    assert files
    others = SOURCES.keys() - {package, "nonesuch"}
    banned = FORBIDDEN[package] | others
    found = [(str(f.relative_to(ROOT)), name) for f in files for name in imported(f) if name in banned]
    assert set(found) <= ALLOWED


def test_source_roots_are_not_packages() -> None:
    assert not [r for r in ("services", "worker", "trainer") if (ROOT / r / "__init__.py").exists()]


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import nonesuch, nonesuch.config", "torch ray fastapi redis numpy pyarrow"),
        ("import nonesuch.orders, nonesuch.rings, nonesuch.snapshots, nonesuch.tickets", "torch ray fastapi"),
        ("import nonesuch_gateway.app", "torch ray"),
        ("import nonesuch_trainer.bna.spreading", "ray"),
        ("from nonesuch.cli.main import make_app; make_app()", "torch ray fastapi uvicorn pyarrow matplotlib"),
    ],
)
def test_imports_stay_light(statement: str, heavy: str) -> None:
    check = f"{statement}\nimport sys\nprint(*[m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
