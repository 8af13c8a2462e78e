"""A calibration on paper: a table for people, a document for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from nonesuch.host.files import strict_json
from nonesuch_worker.calibrate.choice import Choice
from nonesuch_worker.calibrate.curve import Point


def table(points: Sequence[Point]) -> Table:
    """A row for each number of steps, a column for each η: mean top probability · agreement."""
    etas = list(dict.fromkeys(p.eta for p in points))
    by_place = {(p.eta, p.steps): p for p in points}
    shown = Table("steps", *(f"eta {eta:g}" for eta in etas), title="mean top probability · the teacher agrees")
    for steps in sorted({p.steps for p in points}):
        cells = (by_place[eta, steps] for eta in etas)
        shown.add_row(str(steps), *(f"{p.top_probability:.3f} · {100 * p.agreement:5.1f} %" for p in cells))
    return shown


def pasteable(point: Point, others: Mapping[str, Any]) -> str:
    """The parameters of strategy hsm as a line of TOML; `others` are those that were given besides η and steps."""
    params = {**others, "steps": point.steps, "eta": point.eta}
    given = (f"{name} = {json.dumps(value)}" for name, value in params.items() if value is not None)
    return f"params = {{ {', '.join(given)} }}"


def document(points: Sequence[Point], choice: Choice, facts: Mapping[str, Any]) -> str:
    """A calibration as JSON: its facts, the choice and the curves."""
    chosen = None if choice.point is None else asdict(choice.point)
    found = {"reached": choice.reached, "reason": choice.reason, "point": chosen}
    return strict_json({**facts, **found, "curve": [asdict(p) for p in points]}, "the calibration", indent=2) + "\n"
