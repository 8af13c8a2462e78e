"""/v1/batches: mint images and stream them back; the same ones again from their recipe."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, Request
from starlette.responses import Response

from nonesuch_gateway.access.guard import Caller
from nonesuch_gateway.formats import CONTENT
from nonesuch_gateway.formats.negotiation import FormatChoice
from nonesuch_gateway.http.bodies import JsonRoute
from nonesuch_gateway.http.problems import documented
from nonesuch_gateway.recipes.plans import OrderPlan, plan, plan_again, reply_terms
from nonesuch_gateway.recipes.recipe import Recipe
from nonesuch_gateway.recipes.requests import MintRequest
from nonesuch_gateway.replies.headers import etag, image_headers, immutable, is_unchanged, location
from nonesuch_gateway.replies.reading import Reply
from nonesuch_gateway.replies.streams import OnSent, OrderStream
from nonesuch_gateway.routes.deps import CallerDep, Gateway, GatewayDep, OnceDep, PreferencesDep

router = APIRouter(prefix="/v1", tags=["batches"], route_class=JsonRoute)

Opening = AbstractAsyncContextManager[Reply]

_IMAGES = {"description": "One file of images in index order.", "content": CONTENT}


@router.post(
    "/batches",
    summary="Mint labelled images",
    status_code=200,
    response_class=OrderStream,
    responses={200: _IMAGES, **documented(400, 404, 406, 409, 410, 413, 415, 422, 429, 502, 503, 504)},
)
async def mint(
    body: MintRequest,
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    preferences: PreferencesDep,
    once: OnceDep,
) -> OrderStream:
    """Rows come as workers finish them, always in index order; the same request and seed give the same bytes.

    `Content-Location` is where the same bytes can be had again with GET; it is left out where the recipe is too long
    for a URL (a quota of thousands of classes). `X-Nonesuch-Order` names the recipe, which is the `order` of every
    row; `X-Nonesuch-Seed` is the seed that was used. A strategy that rejects images may leave some indices out: there
    are fewer rows then, and `index` says which.

    Small answers have a length and a `Content-Digest`. Going away cancels the order. A stream that fails midway ends
    without its last chunk: a client that reads it to the end without an error has every image.

    A request that is repeated with the same `Idempotency-Key` gets the same bytes, also without a seed: for an hour,
    or until two minutes after all were sent.
    """
    choice = preferences.choose(body.format)
    keys, terms = gateway.link.keys, reply_terms(gateway.settings)
    before = await once.outcome(body)
    if before is not None:
        planned = await gateway.link.run(plan_again(keys, Recipe.from_id(before), terms))
        opening: Opening = gateway.replies.open(planned)  # its images were counted the first time
    else:
        planned = await gateway.link.run(plan(keys, body, terms))
        opening = _within(once.accepting(body, planned.recipe.id), _counted(request, gateway, caller, planned))
    return _stream(gateway, planned, opening, choice, location(request, planned.recipe, choice), once.sent)


@router.head("/batches/{recipe_id}", include_in_schema=False)
@router.get(
    "/batches/{recipe_id}",
    summary="The same images again",
    status_code=200,
    response_class=OrderStream,
    responses={
        200: _IMAGES,
        304: {"description": "The client has these bytes, by its If-None-Match."},
        **documented(404, 406, 410, 422, 429, 502, 503, 504),
    },
)
async def mint_again(
    recipe_id: str, request: Request, gateway: GatewayDep, caller: CallerDep, preferences: PreferencesDep
) -> Response:
    """The bytes of the POST that answered with this `Content-Location`. They never change, so caches may keep them.

    The id is the recipe itself. 410 says that its generator or its classifier is gone, or has other weights now.
    """
    recipe = Recipe.from_id(recipe_id)
    choice = preferences.choose()
    headers = {**location(request, recipe, choice), "Cache-Control": immutable(shared=gateway.tokens is None)}
    if preferences.format is None:
        headers["Vary"] = "Accept"
    if is_unchanged(request, etag(recipe, choice)):
        return Response(status_code=304, headers={"ETag": etag(recipe, choice), **headers})
    planned = await gateway.link.run(plan_again(gateway.link.keys, recipe, reply_terms(gateway.settings)))
    stream = _stream(gateway, planned, _counted(request, gateway, caller, planned), choice, headers)
    return stream.head() if request.method == "HEAD" else stream


def _counted(request: Request, gateway: Gateway, caller: Caller, planned: OrderPlan) -> Opening:
    """Opening the reply, whose images count unless it fails."""
    counting = gateway.limits.images(request, caller.token, planned.order.count)
    return _within(counting, gateway.replies.open(planned))


@asynccontextmanager
async def _within(outer: AbstractAsyncContextManager[None], opening: Opening) -> AsyncIterator[Reply]:
    async with outer, opening as reply:
        yield reply


def _stream(
    gateway: Gateway,
    planned: OrderPlan,
    opening: Opening,
    choice: FormatChoice,
    headers: Mapping[str, str],
    on_sent: OnSent | None = None,
) -> OrderStream:
    settings = gateway.settings
    return OrderStream(
        opening,
        choice.open(planned.order.count, complete=not planned.may_be_short),
        {**image_headers(planned.recipe, choice), **headers},
        stall_s=settings.stall_s,
        buffer_bytes=settings.buffer_bytes if planned.payload_bytes <= settings.buffer_bytes else 0,
        on_sent=on_sent,
    )
