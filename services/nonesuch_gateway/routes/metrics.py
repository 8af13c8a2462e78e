"""/metrics: for Prometheus."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

from nonesuch_gateway.routes.deps import GatewayDep
from nonesuch_gateway.telemetry.scrape import exposition, service

router = APIRouter(tags=["health"])


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
async def metrics(gateway: GatewayDep) -> Response:
    """Requests, images and orders of this gateway since it started, and workers, tickets, rings and snapshots of the
    service. Without Redis `nonesuch_redis_up` is 0 and the latter are left out.
    """
    stats = await service(gateway.link)
    text = await exposition(
        stats,
        gateway.metrics.registry,
        streams=len(gateway.replies),
        watchers=len(gateway.watchers),
        stopping=gateway.gate.closed,
    )
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
