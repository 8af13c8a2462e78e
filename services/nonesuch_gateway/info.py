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


@router.get("/strategies", summary="How latents can be chosen")
async def strategies(gateway: GatewayDep) -> Strategies:
    """Each with the JSON Schema of its parameters."""
    found = (await gateway.link.run(read_catalog(gateway.link.keys))).strategies
    return Strategies(strategies=[found[key] for key in sorted(found)])
