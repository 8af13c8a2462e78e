"""What can be asked for: the generators and strategies of the live workers."""

from fastapi import APIRouter
from pydantic import BaseModel

from nonesuch.catalog import GeneratorInfo, StrategyInfo, read_catalog
from nonesuch_gateway.problems import documented
from nonesuch_gateway.state import GatewayDep

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=documented(503))


class Generators(BaseModel):
    """Sorted by id; empty while no worker is connected."""

    generators: list[GeneratorInfo]


class Strategies(BaseModel):
    """Sorted by name; empty while no worker is connected."""

    strategies: list[StrategyInfo]


@router.get("/generators", summary="What generators are hosted")
async def generators(gateway: GatewayDep) -> Generators:
    """Each with its classes, its image shape (height, width, channels) and the real data its training used."""
    found = (await gateway.link.run(read_catalog(gateway.link.keys))).generators
    return Generators(generators=[found[key] for key in sorted(found)])


class ClassCounts(BaseModel):
    """What became of the latents of one class."""

    class_name: str
    tried: int
    kept: int
    wrong_label: int
    below_threshold: int
    short: int


class StrategyCounts(BaseModel):
    """What one strategy has tried with the same generators."""

    strategy: str
    generators: tuple[str, ...]
    acceptance: float
    """Kept over tried."""
    classes: list[ClassCounts]


class Acceptance(BaseModel):
    """Since the live workers started; empty while no strategy has rejected or accepted anything."""

    strategies: list[StrategyCounts]


@router.get("/acceptance", summary="What filters keep and reject, by class")
async def acceptance(gateway: GatewayDep) -> Acceptance:
    """Rejected by label (the teacher saw another class), or by the threshold (it was not sure enough)."""
    catalog = await gateway.link.run(read_catalog(gateway.link.keys))
    counted = [
        StrategyCounts(
            strategy=strategy,
            generators=generators,
            acceptance=tally.acceptance(),
            classes=[
                ClassCounts(class_name=str(row.pop("class")), **row)  # type: ignore[arg-type]
                for row in tally.table(catalog.generator(generators[0]).class_names)
            ],
        )
        for (strategy, generators), tally in sorted(catalog.tallies.items())
    ]
    return Acceptance(strategies=counted)


@router.get("/strategies", summary="How latents can be chosen")
async def strategies(gateway: GatewayDep) -> Strategies:
    """Each with the JSON Schema of its parameters."""
    found = (await gateway.link.run(read_catalog(gateway.link.keys))).strategies
    return Strategies(strategies=[found[key] for key in sorted(found)])
