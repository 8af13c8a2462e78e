"""/v1/stats: the service's numbers, for dashboards and programs."""

from fastapi import APIRouter

from nonesuch.stats import Stats, read_stats
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.routes.deps import GatewayDep

router = APIRouter(prefix="/v1", tags=["catalogue"], responses=documented(503))


@router.head("/stats", include_in_schema=False)
@router.get("/stats", summary="What the service is doing")
async def stats(gateway: GatewayDep) -> Stats:
    """Workers, open orders and their tickets, rings, snapshots, acceptance, and the memory of Redis, at this moment."""
    return await gateway.link.run(read_stats(gateway.link.keys))
