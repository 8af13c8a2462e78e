"""The pages that say where things are: CONTRIBUTING.md names what there is, docs/architecture.md the floors, and
docs/loops.md every loop that is drawn.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_imports import FLOORS

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
LOOPS = (ROOT / "docs/loops.md").read_text(encoding="utf-8")
DRAWS = "waits for"


def module_files() -> dict[str, Path]:
    """Every module of ours: its name → its file."""
    roots = [ROOT / root for root in ("services", "worker", "trainer")]
    found = {file.relative_to(root).with_suffix(""): file for root in roots for file in root.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): file for name, file in found.items()}


def named_files() -> list[str]:
    """The files and folders that CONTRIBUTING.md names: whatever is in backticks and has a slash."""
    return sorted(set(re.findall(r"`([^`\s]+/[^`\s]*)`", CONTRIBUTING)))


def named_constants() -> list[tuple[str, str]]:
    """(file, name in it), of what stands there as `file` (`name`, `other name`)."""
    found = re.findall(r"`([^`\s]+/[^`\s]+)` \(((?:`\w+`(?:, )?)+)\)", CONTRIBUTING)
    return [(file, name) for file, names in found for name in re.findall(r"\w+", names)]


def test_the_patterns_find_what_the_page_names() -> None:
    assert "services/nonesuch_gateway/formats/" in named_files()
    assert ("services/nonesuch/offers.py", "WorkerInfo") in named_constants()


@pytest.mark.parametrize("path", named_files())
def test_what_contributing_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("file", "name"), named_constants())
def test_the_names_in_brackets_are_in_their_files(file: str, name: str) -> None:
    assert re.search(rf"^(class |def )?{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def drawn_floors(package: str) -> list[set[str]]:
    """The modules and rooms of each floor, from the ground up, as the table below the package's heading has them."""
    section = ARCHITECTURE.partition(f"\n### {package}\n")[2].partition("\n#")[0]
    floors: list[set[str]] = []
    for number, names in re.findall(r"^\| (\d+) \| ([^|]+) \|", section, re.MULTILINE):
        if int(number) == len(floors):
            floors.append(set())
        assert int(number) == len(floors) - 1, "floors are counted from the ground up"
        floors[-1] |= {name.rstrip("/") for name in re.findall(r"`([^`]+)`", names)}
    return floors


@pytest.mark.parametrize("package", FLOORS)
def test_the_floors_on_the_page_are_those_that_hold(package: str) -> None:
    named = [{"__init__" if unit == package else unit for unit in floor.split()} for floor in FLOORS[package]]
    assert drawn_floors(package) == named


def test_every_loop_that_a_module_draws_is_on_the_page() -> None:
    docstrings = {name: ast.get_docstring(ast.parse(file.read_bytes())) for name, file in module_files().items()}
    drawn = {name for name, docstring in docstrings.items() if DRAWS in (docstring or "")}
    assert drawn
    assert not {name for name in drawn if f"`{name}`" not in LOOPS}


def test_the_page_of_loops_names_modules_that_are_there() -> None:
    named = set(re.findall(r"`(nonesuch\w*(?:\.\w+)+)`", LOOPS))
    assert named
    assert named <= module_files().keys()
