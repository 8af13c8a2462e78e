"""POST /v1/batches: mint images and stream them back."""

from fastapi import APIRouter

from nonesuch_gateway.formats import ArrowStream
from nonesuch_gateway.plans import plan
from nonesuch_gateway.problems import documented
from nonesuch_gateway.requests import MintRequest
from nonesuch_gateway.state import GatewayDep
from nonesuch_gateway.streams import OrderStream

router = APIRouter(prefix="/v1", tags=["batches"])


@router.post(
    "/batches",
    summary="Mint labelled images",
    status_code=200,
    response_class=OrderStream,
    responses={
        200: {
            "description": "One Arrow IPC stream of record batches in index order.",
            "content": {ArrowStream.media_type: {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(400, 404, 413, 415, 422, 429, 502, 503, 504),
    },
)
async def mint(request: MintRequest, gateway: GatewayDep) -> OrderStream:
    """Rows come as workers finish them, always in index order; the same request and seed give the same bytes.

    `X-Nonesuch-Order` names the recipe, which is the `order` of every row; `X-Nonesuch-Seed` is the seed that was
    used. A strategy that rejects images may leave some indices out: there are fewer rows then, and `index` says which.
    Going away cancels the order. A stream that fails midway ends without its last chunk: a client that reads
    it to the end without an error has every image.
    """
    link, settings = gateway.link, gateway.settings
    planned = await link.run(plan(link.keys, request, settings))
    headers = {"X-Nonesuch-Order": planned.recipe, "X-Nonesuch-Seed": str(planned.order.seed)}
    if planned.order.snapshot is not None:
        headers["X-Nonesuch-Snapshot"] = str(planned.order.snapshot.version)
    return OrderStream(gateway.replies, planned, ArrowStream(), headers, settings.stall_s)
