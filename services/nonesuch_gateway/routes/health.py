"""/healthz and /readyz, for load balancers and orchestrators: is this process up, and can it serve?"""

from fastapi import APIRouter
from pydantic import BaseModel

from nonesuch.link import check_writable
from nonesuch.orders import wait_for_workers
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
    generators: list[str]


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process is up")
async def healthz() -> Health:
    """Asks nobody else: a restart of the gateway would not bring back Redis."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether images can be minted", responses=documented(503))
async def readyz(gateway: GatewayDep) -> Readiness:
    """503 says what is missing: Redis, one that takes writes, or workers."""
    await gateway.link.run(check_writable(gateway.link.keys))
    catalog = await gateway.link.run(wait_for_workers(gateway.link.keys))
    return Readiness(workers=len(catalog.workers), generators=sorted(catalog.generators))
