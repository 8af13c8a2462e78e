"""The choice of the point of the curves to mine with."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from nonesuch.model import Frozen
from nonesuch_worker.calibrate.curve import Point


class Goal(Frozen):
    """How hard images are to be, and how far from their labels they may get."""

    target: float = Field(default=0.6, gt=0, lt=1)
    """The mean top probability to come down to."""
    floor: float = Field(default=0.9, ge=0, le=1)
    """The fraction of the images that the teacher has to take for their label."""


@dataclass(frozen=True)
class Choice:
    """The point to mine with, or the nearest one."""

    point: Point | None
    """The point that was chosen; None where every mined point is below the floor."""
    reached: bool
    reason: str
    """A sentence for the person who asked."""


def choose(points: Sequence[Point], goal: Goal) -> Choice:
    """The fewest steps that reach the target within the floor; of equals the one that the teacher agrees with most.

    `points` hold random images (0 steps) and at least one point that was mined.
    """
    random = next(p for p in points if p.steps == 0)
    within = [p for p in points if p.steps > 0 and p.agreement >= goal.floor]
    reaching = [p for p in within if p.top_probability <= goal.target]
    if reaching:
        best = min(reaching, key=lambda p: (p.steps, -p.agreement, p.eta))
        easy = f"; random images are at {random.top_probability:.3f}" if random.top_probability <= goal.target else ""
        return Choice(best, True, f"{_said(best)}: the fewest steps that reach {goal.target:g} within the floor{easy}")
    if within:
        nearest = min(within, key=lambda p: (p.top_probability, p.steps))
        return Choice(
            nearest,
            False,
            f"target {goal.target:g} not reached: the lowest within the floor of {100 * goal.floor:g} % is "
            f"{_said(nearest)}. Try more steps or a larger eta, or lower the floor",
        )
    return Choice(
        None,
        False,
        f"target {goal.target:g} not reached: no mined point keeps the teacher's agreement at {100 * goal.floor:g} %; "
        f"on random images it is {100 * random.agreement:.1f} %. Try a smaller eta, another teacher, or a lower floor",
    )


def _said(point: Point) -> str:
    return (
        f"eta {point.eta:g}, {point.steps} step{'s' * (point.steps > 1)} (mean top probability "
        f"{point.top_probability:.3f}, the teacher agrees with {100 * point.agreement:.1f} %)"
    )
