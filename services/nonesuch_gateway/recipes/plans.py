"""Plans: a request, or a recipe, made an order that can be filled."""

import time
import uuid
from dataclasses import dataclass

from nonesuch.catalog import read_catalog
from nonesuch.effects import Op
from nonesuch.errors import GeneratorNotFound, InvalidOrder, RecipeGone, RecipeNotFound, SnapshotNotFound
from nonesuch.link import Keys
from nonesuch.offers import Catalog
from nonesuch.orders import Checked, Order, Priority, check_order, default_ticket_size, wait_for_workers
from nonesuch.rings import RingSpec
from nonesuch.snapshots import read_header
from nonesuch_gateway.http.pointers import SHOWN_CHARACTERS
from nonesuch_gateway.recipes.recipe import Content, Recipe
from nonesuch_gateway.recipes.requests import MintRequest
from nonesuch_gateway.recipes.resolve import resolve
from nonesuch_gateway.settings import GatewaySettings

SLOT_GRAIN = 65_536

_ORDER_FIELDS = {"generators": "generator", "labels": "classes", "deadline": "deadline_s"}
"""Fields of an order that a request knows by another name."""


@dataclass(frozen=True)
class Terms:
    """What an endpoint grants its orders."""

    kind: str
    """What the names of the orders' rings start with."""
    priority: Priority
    max_count: int
    default_deadline_s: float
    max_deadline_s: float
    slots: int
    ring_bytes: int
    """How many bytes a ring may have; this or `slots`, the smaller limit counts, and one slot there always is."""
    ttl_s: float
    """How many seconds a ring lives when nobody comes for it."""
    default_generator: str


def reply_terms(settings: GatewaySettings) -> Terms:
    """The terms of a request whose answer is the images."""
    return Terms(
        kind="reply-",
        priority="interactive",
        max_count=settings.max_count,
        default_deadline_s=settings.default_deadline_s,
        max_deadline_s=settings.max_deadline_s,
        slots=settings.reply_slots,
        ring_bytes=settings.max_reply_bytes,
        ttl_s=settings.reply_ttl_s,
        default_generator=settings.default_generator,
    )


def order_terms(settings: GatewaySettings) -> Terms:
    """The terms of an order whose images are fetched later."""
    return Terms(
        kind="order-",
        priority="bulk",
        max_count=settings.max_order_count,
        default_deadline_s=settings.max_order_deadline_s,
        max_deadline_s=settings.max_order_deadline_s,
        slots=4096,  # a ring has no more
        ring_bytes=settings.order_bytes,
        ttl_s=settings.order_ttl_s,
        default_generator=settings.default_generator,
    )


@dataclass(frozen=True)
class OrderPlan:
    """What can be filled: the order, and the ring that its batches come through."""

    recipe: Recipe
    order: Order
    ring: RingSpec
    may_be_short: bool
    """Whether the strategy may leave indices out."""
    payload_bytes: int
    """The most bytes that all of the order's batches take in Arrow."""
    checked: Checked | None = None
    """The order as it was held against the catalogue; None for one that was placed before."""


def plan(keys: Keys, request: MintRequest, terms: Terms) -> Op[OrderPlan]:
    """Turn a request into an order that a live worker can fill. Does not block, and writes nothing.

    Raises:
        InvalidOrder: names the field of the request and what would be possible.
        GeneratorNotFound, SnapshotNotFound: something named is not there.
        NoWorkers: nobody is there to fill it.
    """
    catalog = yield from read_catalog(keys)
    recipe = yield from resolve(
        keys, request, catalog, default_generator=terms.default_generator, max_count=terms.max_count
    )
    seconds = terms.default_deadline_s if request.deadline_s is None else request.deadline_s
    if seconds > terms.max_deadline_s:
        raise InvalidOrder(
            f"a deadline of {seconds:g} s is beyond the {terms.max_deadline_s:g} s that are allowed: shorten it",
            field="deadline_s",
        )
    try:
        return _planned(recipe, catalog, terms, seconds)
    except InvalidOrder as error:
        error.field = _ORDER_FIELDS.get(error.field or "", error.field)
        raise


def plan_again(keys: Keys, recipe: Recipe, terms: Terms) -> Op[OrderPlan]:
    """Turn a recipe into an order that gives the same bytes as its last one. Does not block, and writes nothing.

    Raises:
        RecipeGone: its generator, its classifier or their weights are not there any more.
        RecipeNotFound: no request could have made it.
        NoWorkers: nobody is there to fill it.
    """
    catalog = yield from wait_for_workers(keys)
    if recipe.content.count > terms.max_count:
        raise RecipeNotFound(f"the recipe is of {recipe.content.count} images; {terms.max_count} are allowed here")
    try:
        found = yield from _weights(keys, recipe.content, catalog)
        info = catalog.generator(recipe.content.generators[0])
    except (GeneratorNotFound, SnapshotNotFound) as error:
        raise RecipeGone(f"{error}. What the recipe needs is gone: make a new request") from None
    if found != recipe.weights:
        raise RecipeGone("a generator or a classifier of the recipe has other weights now: make a new request")
    if recipe.content.ticket_size != default_ticket_size(info.image_shape):
        raise RecipeGone(
            "the recipe was made for tickets of another size, so its bytes would differ: make a new request"
        )
    try:
        return _planned(recipe, catalog, terms, terms.max_deadline_s)
    except InvalidOrder as error:
        raise RecipeNotFound(f"the recipe cannot be minted: {str(error)[:SHOWN_CHARACTERS]}") from None


def _weights(keys: Keys, content: Content, catalog: Catalog) -> Op[tuple[str, ...]]:
    """The sha256 of what a recipe needs, as it is now."""
    found = [catalog.generator(g).sha256 for g in content.generators]
    for ref in (content.snapshot, content.teacher):
        if ref is None:
            continue
        if ref.version == "latest":
            raise RecipeNotFound("the recipe names the latest snapshot, which is another one every time")
        found.append((yield from read_header(keys, ref.channel, ref.version)).sha256)
    return tuple(found)


def order_of(recipe: Recipe, order_id: str, sink: str, priority: Priority, deadline: float) -> Order:
    """A recipe as an order."""
    given = {"id": order_id, "sink": sink, "priority": priority, "deadline": deadline}
    return Order.model_validate({**dict(recipe.content), **given})


def _planned(recipe: Recipe, catalog: Catalog, terms: Terms, seconds: float) -> OrderPlan:
    """The plan of a recipe: its order, held against the catalogue, and a ring.

    Orders need ids of their own, because two clients may ask for the same at the same time, while the same request
    must give the same bytes. So an order's id is its recipe's digest and a random suffix; the rows carry the digest.
    """
    order_id = f"{recipe.digest}.{uuid.uuid4().hex[:16]}"
    order = order_of(recipe, order_id, f"{terms.kind}{order_id}", terms.priority, time.time() + seconds)
    checked = check_order(order, catalog)
    slot_bytes = -(-checked.ticket_bytes // SLOT_GRAIN) * SLOT_GRAIN
    ring = RingSpec(
        name=order.sink,
        slots=max(1, min(terms.slots, terms.ring_bytes // slot_bytes, order.tickets)),
        slot_bytes=slot_bytes,
        ttl_s=terms.ttl_s,
    )
    return OrderPlan(recipe, order, ring, checked.may_be_short, checked.ticket_bytes * order.tickets, checked)
