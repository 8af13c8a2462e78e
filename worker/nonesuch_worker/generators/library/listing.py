"""What generators there are, packaged and in the library, as their cards have it. Nothing is loaded."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.labels import distinct_names
from nonesuch_worker.generators.card import CARD, MAX_SIGMA, read_card
from nonesuch_worker.generators.load import folder_of, packaged
from nonesuch_worker.generators.places import library

OWN_PLACE = ("class_names", "curve", "metrics", "notes", "recipe")
"""Fields of a card that are not shown among the others."""


@dataclass(frozen=True)
class Listed:
    """A generator, as far as it is known without loading it."""

    name: str
    """The name or the folder that it is loaded by."""
    folder: Path
    where: str
    card: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    """Why the card cannot be read; empty if it can."""

    @property
    def size(self) -> int:
        """The size of its folder on disk, bytes."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def everything() -> list[Listed]:
    """Every generator that can be loaded by its name: the packaged ones, then those of the library."""
    own = [name for name in library() if name not in packaged()]
    return [_listed(name) for name in packaged() + own]


def named(source: str) -> Listed:
    """One generator, by its name or its folder. Raises `GeneratorNotFound`, or `IntegrityError` without a card."""
    found = _listed(source)
    if not (found.folder / CARD).is_file():
        raise GeneratorNotFound(f"{found.folder} has no {CARD}: `nonesuch generators add` writes one")
    if found.fault:
        raise IntegrityError(found.fault)
    return found


def table(generators: Sequence[Listed]) -> Table:
    """A table with a row for each generator."""
    columns = ("name", "family", "image", "classes", "σ max", "size", "licence", "where")
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        shown.add_column(name, overflow="fold", no_wrap=name == "name")
    for generator in generators:
        size = f"{generator.size / 1e6:.1f} MB"
        if generator.fault:
            fault = f"damaged: nonesuch generators verify {generator.name}"
            row = [generator.name, "", "", "", "", size, fault, generator.where]
        else:
            card = generator.card
            family = str(card.get("family", ""))
            shape = "×".join(map(str, card.get("image_shape") or ()))
            sigma = card.get("max_sigma") or MAX_SIGMA.get(family, 1.0)
            classes = str(len(card.get("class_names") or ()))
            row = [generator.name, family, shape, classes, f"{sigma}", size, card.get("license", "unknown")]
            row.append(generator.where)
        shown.add_row(*(Text(str(cell)) for cell in row))
    return shown


def description(generator: Listed) -> Iterator[str]:
    """Everything that the card says, in lines: its facts, the classes, the recipe and the metrics."""
    card = generator.card
    facts = {"folder": str(generator.folder), "size": f"{generator.size:,} bytes"}
    facts |= dict(_flat({name: value for name, value in card.items() if name not in OWN_PLACE}))
    facts.setdefault("max_sigma", str(MAX_SIGMA.get(str(card.get("family")), 1.0)))
    yield from _aligned(facts)
    names = list(card.get("class_names") or ())
    yield f"{len(names)} classes: {', '.join(map(str, names))}"
    for title in ("recipe", "metrics"):
        if isinstance(part := card.get(title), dict) and part:
            yield f"{title}:"
            yield from _aligned(dict(_flat(part)), indent="  ")
    for note in card.get("notes") or ():
        yield f"note: {note}"


def curve(generator: Listed) -> Table | None:
    """The metrics of the exports before this one and of this one, by iteration; None if the card has no curve."""
    points = generator.card.get("curve")
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points) or not points:
        return None
    done = generator.card.get("iterations")
    if points[-1].get("iteration") != done:  # a ranking's curve ends with this export itself
        points = [*points, {"iteration": done, **(generator.card.get("metrics") or {})}]
    rows = [dict(_flat(point)) for point in points]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = Table(*columns, title="the metrics on the way", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(Text(row.get(name, "")) for name in columns))
    return shown


def _listed(source: str) -> Listed:
    folder = folder_of(source)
    where = "packaged" if source in packaged() else "library" if source in library() else "folder"
    try:
        card = read_card(folder)
    except (IntegrityError, OSError) as error:
        return Listed(source, folder, where, fault=str(error))
    if odd := [key for key in ("class_names", "image_shape") if not isinstance(card.get(key, []), list)]:
        return Listed(source, folder, where, fault=f"{folder / CARD}: {' and '.join(odd)} must be a list")
    try:
        names = distinct_names([str(name) for name in card.get("class_names") or ()])
    except InvalidValue as error:
        return Listed(source, folder, where, fault=f"{folder / CARD}: {error}")
    return Listed(source, folder, where, card | ({"class_names": list(names)} if names else {}))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested objects as dotted names; a list in one line."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield before + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _aligned(facts: Mapping[str, str], indent: str = "") -> Iterator[str]:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        yield f"{indent}{name:{width}}  {value}"
