"""What can be asked for, and what became of it: generators, strategies, acceptance."""

from fastapi import APIRouter
from pydantic import BaseModel
from pydantic.main import IncEx

from nonesuch.catalog import read_catalog
from nonesuch.model import Name
from nonesuch.offers import GeneratorInfo, StrategyInfo
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.routes.deps import GatewayDep

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=documented(503))


class Generators(BaseModel):
    """Sorted by id; empty while no worker is connected."""

    generators: list[GeneratorInfo]


class Strategies(BaseModel):
    """Sorted by name; empty while no worker is connected."""

    strategies: list[StrategyInfo]


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
    acceptance: float | None
    """Kept over tried; null while nothing was tried."""
    classes: list[ClassCounts]


class Acceptance(BaseModel):
    """Since the live workers started; empty while no strategy has rejected or accepted anything."""

    strategies: list[StrategyCounts]


_WITHOUT_CARDS: IncEx = {"generators": {"__all__": {"card"}}}


@router.head("/generators", include_in_schema=False, response_model_exclude=_WITHOUT_CARDS)
@router.get("/generators", summary="What generators are hosted", response_model_exclude=_WITHOUT_CARDS)
async def generators(gateway: GatewayDep) -> Generators:
    """Each with its classes, its image shape (height, width, channels) and the real data its training used. What else
    its card says is at `/v1/generators/{generator_id}`.
    """
    found = (await gateway.link.run(read_catalog(gateway.link.keys))).generators
    return Generators(generators=[found[key] for key in sorted(found)])


@router.head("/generators/{generator_id}", include_in_schema=False)
@router.get("/generators/{generator_id}", summary="One hosted generator", responses=documented(404, 422))
async def generator(generator_id: Name, gateway: GatewayDep) -> GeneratorInfo:
    """Its card: classes by label, image shape, licence and sha256 of the weights, the real data its training used, and
    how it was built, trained and measured, as far as its maker says.
    """
    return (await gateway.link.run(read_catalog(gateway.link.keys))).generator(generator_id)


@router.head("/strategies", include_in_schema=False)
@router.get("/strategies", summary="How latents can be chosen")
async def strategies(gateway: GatewayDep) -> Strategies:
    """Each with the JSON Schema of its parameters."""
    found = (await gateway.link.run(read_catalog(gateway.link.keys))).strategies
    return Strategies(strategies=[found[key] for key in sorted(found)])


@router.head("/acceptance", include_in_schema=False)
@router.get("/acceptance", summary="What filters keep and reject, by class")
async def acceptance(gateway: GatewayDep) -> Acceptance:
    """Rejected by label (the teacher saw another class), or by the threshold (it was not sure enough)."""
    catalog = await gateway.link.run(read_catalog(gateway.link.keys))
    counted = [
        StrategyCounts(
            strategy=strategy,
            generators=generators,
            acceptance=tally.acceptance() if tally.tried else None,
            classes=[
                ClassCounts(class_name=str(row.pop("class")), **row)  # type: ignore[arg-type]
                for row in tally.table(catalog.generator(generators[0]).class_names)
            ],
        )
        for (strategy, generators), tally in sorted(catalog.tallies.items())
    ]
    return Acceptance(strategies=counted)
