"""The strategies that are installed: entry points of the group `nonesuch.strategies`."""

from nonesuch.offers import StrategyInfo
from nonesuch.plugins import names, plugin
from nonesuch_worker.strategies.base import Strategy

GROUP = "nonesuch.strategies"


def strategy(name: str) -> Strategy:
    """The strategy of that name. Raises `InvalidValue` that lists what is registered."""
    found: Strategy = plugin(GROUP, name)()
    return found


def describe() -> tuple[StrategyInfo, ...]:
    """Every installed strategy, for the catalogue."""
    found = [strategy(name) for name in names(GROUP)]
    return tuple(
        StrategyInfo(
            name=s.name,
            schema=s.Params.model_json_schema(),
            needs_snapshot=s.needs_snapshot,
            needs_teacher=s.needs_teacher,
            needs_gradient=s.needs_gradient,
            mixes=s.mixes,
            rejects=s.rejects,
        )
        for s in found
    )
