"""/v1/orders: large orders, made in the background and fetched later, from any gateway."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from nonesuch.errors import OrderNotFound
from nonesuch.order_status import OrderStatus
from nonesuch_gateway.access.idempotency import in_progress
from nonesuch_gateway.formats import CONTENT
from nonesuch_gateway.http.bodies import JsonRoute
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.recipes.plans import order_terms, plan
from nonesuch_gateway.recipes.requests import MintRequest
from nonesuch_gateway.replies.events import watch
from nonesuch_gateway.replies.headers import image_headers, location
from nonesuch_gateway.replies.large_orders import drop, find, keep
from nonesuch_gateway.replies.reading import failure
from nonesuch_gateway.replies.streams import OrderStream
from nonesuch_gateway.routes.deps import WATCHING, CallerDep, GatewayDep, KeptDep, OnceDep, PreferencesDep, RootDep

router = APIRouter(prefix="/v1/orders", tags=["orders"], route_class=JsonRoute)


@router.post(
    "",
    summary="Place a large order",
    status_code=202,
    responses=documented(400, 404, 406, 409, 413, 415, 422, 429, 503),
)
async def place_order(
    body: MintRequest,
    request: Request,
    response: Response,
    gateway: GatewayDep,
    caller: CallerDep,
    root: RootDep,
    preferences: PreferencesDep,
    once: OnceDep,
) -> OrderStatus:
    """The images are made in the background, after those of `POST /v1/batches`, and wait for `GET .../results`.

    Only so many wait in Redis: workers go on when the first ones are read. So read the results while they are made;
    an order may be far larger than what can wait. One that nobody asks about is dropped, after an hour by default.

    A format that is named here is the one of the results, unless their request names another. A request that is
    repeated with the same `Idempotency-Key` is the same order.
    """
    link, settings = gateway.link, gateway.settings
    terms = order_terms(settings)
    named = body.format if preferences.format is None else preferences.format
    choice = None if named is None else preferences.choose(named)
    order_id = await once.outcome(body)
    if order_id is None:
        planned = await link.run(plan(link.keys, body, terms))
        if choice is not None:  # refuses now what the format could not hold then
            choice.open(planned.order.count, complete=not planned.may_be_short).close()
        order_id = planned.order.id
        placing = keep(link.keys, planned, terms, named_format=named, owner=caller.id, at_most=settings.max_orders)
        async with once.accepting(body, order_id), gateway.limits.images(request, caller.token, planned.order.count):
            await link.run(placing)
    try:
        kept = await link.run(find(link.keys, order_id, terms, owner=caller.confined_to))
    except OrderNotFound:
        raise in_progress() from None
    status = kept.status(root)
    response.headers["Location"] = status.links["self"]
    return status


@router.head("/{order_id}", include_in_schema=False)
@router.get("/{order_id}", summary="How far an order is", responses=documented(404, 503))
async def order(kept: KeptDep, root: RootDep, response: Response) -> OrderStatus:
    """An order is gone when its results were read, when it was cancelled, or when nobody asked for it for long."""
    response.headers["Cache-Control"] = "no-store"
    return kept.status(root)


@router.delete("/{order_id}", summary="Cancel an order", responses=documented(404, 503))
async def cancel(order_id: str, gateway: GatewayDep, caller: CallerDep, root: RootDep) -> OrderStatus:
    """Answers with how far it was. Batches that nobody read are dropped, and the order is gone."""
    terms = order_terms(gateway.settings)
    kept = await gateway.link.run(drop(gateway.link.keys, order_id, terms, owner=caller.confined_to))
    status = kept.status(root)
    gateway.metrics.order_ended("bulk", "cancelled" if status.state == "open" else status.state)
    if status.state == "open":
        status = status.model_copy(update={"state": "cancelled", "reason": "cancelled by its owner"})
    return status


@router.get(
    "/{order_id}/events",
    summary="Progress as it happens",
    response_class=EventSourceResponse,
    responses=documented(404, 503),
    dependencies=[WATCHING],
)
async def events(
    kept: KeptDep,
    gateway: GatewayDep,
    root: RootDep,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that the client saw.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """`progress` whenever tickets were made, then `end`; or `gone` when the order is no longer kept. The data is the
    order's status. Close the connection at `end` or `gone`, or an EventSource comes again.
    """
    terms = order_terms(gateway.settings)
    async for event in watch(gateway.link, gateway.gate, kept, terms, root=root, seen=last_event_id):
        yield event


@router.head("/{order_id}/events", include_in_schema=False)
async def events_head(kept: KeptDep) -> Response:
    """A HEAD of `events`, which as a generator could only begin to send."""
    head = Response(media_type=EventSourceResponse.media_type)
    del head.headers["Content-Length"]
    return head


@router.head("/{order_id}/results", include_in_schema=False)
@router.get(
    "/{order_id}/results",
    summary="The images, once",
    status_code=200,
    response_class=OrderStream,
    responses={
        200: {"description": "One file of images in index order.", "content": CONTENT},
        **documented(404, 406, 409, 422, 429, 502, 503, 504),
    },
)
async def results(kept: KeptDep, request: Request, gateway: GatewayDep, preferences: PreferencesDep) -> Response:
    """Rows come as they are made, in index order, and leave Redis as they are sent; afterwards the order is gone.

    One client can read at a time (409 for another). One that goes away before it took a batch may come again; after
    that the order is cancelled, as rows are missing: place it again with its seed, which makes the same images. A
    stream that fails midway ends without its last chunk.
    """
    settings, end = gateway.settings, kept.ring.end
    if end is not None and end.state != "done":
        raise failure(end, kept.note.recipe.content.count)
    planned = kept.plan()
    choice = preferences.choose(kept.note.format)
    again = location(request, planned.recipe, choice) if planned.order.count <= settings.max_count else {}
    stream = OrderStream(
        gateway.replies.read(planned, ttl_s=settings.reply_ttl_s),
        choice.open(planned.order.count, complete=not planned.may_be_short),
        {**image_headers(planned.recipe, choice), **again, "Cache-Control": "no-store"},
        stall_s=settings.stall_s,
        buffer_bytes=0,
    )
    return stream.head() if request.method == "HEAD" else stream
