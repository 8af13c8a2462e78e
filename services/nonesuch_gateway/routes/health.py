"""/healthz and /readyz, for load balancers and orchestrators: is this process up, and can it serve?"""

from fastapi import APIRouter
from pydantic import BaseModel

from nonesuch.catalog import count_workers
from nonesuch.errors import NoWorkers
from nonesuch.link import check_writable
from nonesuch.offers import NOBODY
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.routes.deps import GatewayDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """This process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Redis answers and takes writes, and at least one worker is there."""

    status: str = "ready"
    workers: int


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process is up")
async def healthz() -> Health:
    """Asks nobody else: a restart of the gateway would not bring back Redis."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether images can be minted", responses=documented(503))
async def readyz(gateway: GatewayDep) -> Readiness:
    """503 says what is missing: Redis, one that takes writes, or workers. What these offer is not read, so that probes
    cost the same however much it is."""
    await gateway.link.run(check_writable(gateway.link.keys))
    workers = await gateway.link.run(count_workers(gateway.link.keys))
    if not workers:
        raise NoWorkers(NOBODY)
    return Readiness(workers=workers)
