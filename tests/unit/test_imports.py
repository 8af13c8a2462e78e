"""Who may import whom: packages never sideways, rooms never upwards, and light modules nothing heavy.

Every import counts: at the top of a module, inside a function, below `TYPE_CHECKING`.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import pytest

import nonesuch

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

FLOORS: Mapping[str, tuple[str, ...]] = {
    "nonesuch": (
        "effects errors model seeds tally",
        "host labels ledger sequencer",
        "config offers plugins realdata weights",
        "link schema",
        "catalog formats rings snapshots",
        "classifiers orders readers",
        "order_status stats tickets",
        "client local",
        "doctor smoothed",
        "cli",
        "nonesuch __main__",
    ),
    "nonesuch_gateway": (
        "formats telemetry",
        "http",
        "settings",
        "document recipes",
        "access replies",
        "routes",
        "app",
        "server",
        "cli",
    ),
    "nonesuch_worker": (
        "finite latents networks settings",
        "engine",
        "generators",
        "strategies pretrain",
        "minting calibrate condition",
        "fleet",
    ),
    "nonesuch_trainer": (
        "settings",
        "learning",
        "bna",
        "reporting",
        "sources",
        "loop metrics",
        "cli demo experiments",
    ),
}
"""By package, from the ground up: a room or a module imports only from floors below its own, never from its own."""
MOST_MODULES = 20
"""In one folder, `__init__.py` and `__main__.py` aside. It only falls."""


@cache
def modules() -> dict[str, Path]:
    """Every module of ours, by its dotted name."""
    found = {}
    for source in SOURCES.values():
        for file in source.rglob("*.py"):
            name = ".".join(file.relative_to(source.parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


@cache
def imported(name: str) -> frozenset[str]:
    """The full names of what a module imports, anywhere in it; of our own, those of modules."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively: name the package"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in known else node.module for each in inner}
    return frozenset(found - {name})


def package_of(name: str) -> str:
    return name.partition(".")[0]


def unit_of(name: str) -> str:
    """The module or room of a package that a module is, or is in; the package itself for its `__init__`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def room_of(name: str) -> str:
    """The folder that a module lies in."""
    return name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """Imports of a package's modules from each other."""
    for name in modules():
        if package_of(name) == package:
            yield from ((name, other) for other in imported(name) if package_of(other) == package)


def circle_in(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A circle of these arrows, or none."""
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        graph[one].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


@pytest.mark.parametrize("package", SOURCES)
def test_packages_import_nonesuch_and_never_each_other(package: str) -> None:
    names = [name for name in modules() if package_of(name) == package]
    assert names
    banned = FORBIDDEN[package] | (SOURCES.keys() - {package, "nonesuch"})
    found = {
        (str(modules()[name].relative_to(ROOT)), package_of(other))
        for name in names
        for other in imported(name)
        if package_of(other) in banned
    }
    assert found <= ALLOWED


@pytest.mark.parametrize("package", SOURCES)
def test_every_module_and_room_has_one_floor(package: str) -> None:
    named = Counter(unit for floor in FLOORS[package] for unit in floor.split())
    there = {unit_of(name) for name in modules() if package_of(name) == package}
    if package != "nonesuch":
        there.discard(package)  # whose __init__ only says what the package is
    assert set(named) == there and set(named.values()) == {1}


@pytest.mark.parametrize("package", SOURCES)
def test_no_arrow_runs_upwards(package: str) -> None:
    floor = {unit: number for number, units in enumerate(FLOORS[package]) for unit in units.split()}
    wrong = [
        (one, other)
        for one, other in arrows(package)
        if unit_of(one) != unit_of(other) and floor[unit_of(one)] <= floor[unit_of(other)]
    ]
    assert wrong == []


def test_no_rooms_and_no_modules_import_in_a_circle() -> None:
    every = [arrow for package in SOURCES for arrow in arrows(package)]
    assert circle_in(every) == []
    between = [(room_of(one), room_of(other)) for one, other in every]
    assert circle_in((one, other) for one, other in between if one != other and not {one, other} & SOURCES.keys()) == []


def test_no_folder_is_crowded() -> None:
    crowd = Counter(room_of(name) for name, file in modules().items() if not file.name.startswith("__"))
    assert max(crowd.values()) == MOST_MODULES, "fewer are better: lower the number. More are too many: make a room"


def test_a_class_name_stands_for_one_thing() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for name, file in modules().items():
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def entry_points() -> list[EntryPoint]:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return [EntryPoint(name, value, group) for group, points in groups.items() for name, value in points.items()]


@pytest.mark.parametrize("point", entry_points(), ids=lambda point: f"{point.group}:{point.name}")
def test_every_entry_point_loads(point: EntryPoint) -> None:
    assert callable(point.load())


def test_what_is_promised_is_documented_and_nothing_else_is_used_from_outside() -> None:
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs/api.md").read_text()
    assert [name for name in nonesuch.__all__ if not re.search(rf"\bnonesuch\.{name}\b", pages)] == []
    shown = [ROOT / "README.md", *(ROOT / "examples").glob("*.py")]
    used = {name for file in shown for name in re.findall(r"\bnonesuch\.([A-Za-z]\w*)", file.read_text())}
    assert used - {"client"} <= set(nonesuch.__all__)  # `nonesuch.client` is a logger


def test_what_others_import_of_ours_is_there() -> None:
    """Benchmarks, examples and documents, and the lines of Python in Markdown, compose files and manifests."""
    folders = [ROOT / folder for folder in ("benchmarks", "deploy", "docs", "examples")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".md", ".yml", ".yaml")]
    found, missing = 0, []
    for file in (*files, ROOT / "README.md", ROOT / "docker-compose.yml"):
        for module, names in re.findall(r"from (nonesuch[\w.]*) import (\([^)]*\)|[\w, ]+)", file.read_text()):
            there = import_module(module)
            for name in re.findall(r"\w+", names):
                found += 1
                if f"{module}.{name}" not in modules() and not hasattr(there, name):
                    missing.append((file.name, module, name))
    assert found > 100 and missing == []


def test_source_roots_are_not_packages() -> None:
    assert not [r for r in ("services", "worker", "trainer") if (ROOT / r / "__init__.py").exists()]


def test_floors_are_told_apart() -> None:
    """The checks see what they are for: an arrow upwards, and a circle."""
    ground, above = next(pairwise(FLOORS["nonesuch_trainer"]))
    assert (ground, above) == ("settings", "learning")
    assert circle_in([("a", "b"), ("b", "c"), ("c", "a")])
    assert circle_in([("a", "b"), ("a", "c"), ("b", "c")]) == []


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import nonesuch, nonesuch.config", "torch ray fastapi redis numpy pyarrow"),
        ("import nonesuch.orders, nonesuch.rings, nonesuch.snapshots, nonesuch.tickets", "torch ray fastapi"),
        ("import nonesuch.smoothed.orders, nonesuch.classifiers.published", "torch"),
        ("import nonesuch_gateway.app", "torch ray"),
        ("import nonesuch_trainer.bna.spreading", "ray"),
        ("import nonesuch_trainer.settings.identity", "torch"),
    ],
)
def test_imports_stay_light(statement: str, heavy: str) -> None:
    check = f"{statement}\nimport sys\nprint(*[m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
