"""From a request to an order that can be filled."""

import json
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from nonesuch.catalog import Catalog, GeneratorInfo, read_catalog
from nonesuch.errors import InvalidOrder
from nonesuch.keys import Keys
from nonesuch.labels import Balanced, Labels, Quota, resolve_classes
from nonesuch.link import Op
from nonesuch.orders import Order, SnapshotRef, check_order, default_ticket_size, ticket_bytes
from nonesuch.rings import RingSpec
from nonesuch.snapshots import SnapshotHeader, read_header
from nonesuch_gateway.requests import MintRequest
from nonesuch_gateway.settings import GatewaySettings

RANDOM_SEED_BITS = 53
"""JSON numbers of JavaScript are exact up to here."""
SLOT_GRAIN = 65_536

_ORDER_FIELDS = {"generators": "generator", "labels": "classes", "deadline": "deadline_s"}
"""Fields of an order that a request knows by another name."""


@dataclass(frozen=True)
class Plan:
    """A request that can be filled: the order, and the ring that its reply needs."""

    order: Order
    ring: RingSpec
    may_be_short: bool
    """Whether the strategy may leave indices out."""
    recipe: str
    """Names the content: the same for every order that gives the same bytes. It is the `order` of every row."""


def plan(keys: Keys, request: MintRequest, settings: GatewaySettings) -> Op[Plan]:
    """Turn a request into an order that a live worker can fill. Does not block, and writes nothing.

    Orders need ids of their own, because two clients may ask for the same at the same time, while the same request
    must give the same bytes. So an order's id is its recipe and a random suffix, and the rows carry the recipe.

    Raises:
        InvalidOrder: names the field of the request and what would be possible.
        GeneratorNotFound, SnapshotNotFound: something named is not there.
        NoWorkers: nobody is there to fill it.
    """
    catalog = yield from read_catalog(keys)
    generators = _generator_ids(request, catalog, settings)
    info = catalog.generator(generators[0])
    labels, count = _labels(request, info, settings)
    snapshot = yield from _fixed(keys, _snapshot(request))
    teacher = yield from _fixed(keys, request.teacher)
    seed = secrets.randbits(RANDOM_SEED_BITS) if request.seed is None else request.seed
    content = {
        "generators": generators,
        "strategy": request.strategy,
        "params": request.params,
        "labels": labels,
        "count": count,
        "seed": seed,
        "snapshot": snapshot and SnapshotRef(channel=snapshot.channel, version=snapshot.version),
        "teacher": teacher and SnapshotRef(channel=teacher.channel, version=teacher.version),
        "ticket_size": default_ticket_size(info.image_shape),
    }
    weights = [catalog.generator(g).sha256 for g in generators] + [c.sha256 for c in (snapshot, teacher) if c]
    recipe = _recipe(Order.model_validate({**content, "id": "recipe", "sink": "recipe"}), weights)
    order_id = f"{recipe}.{uuid.uuid4().hex[:16]}"
    ring = f"reply-{order_id}"
    order = Order.model_validate(
        {**content, "id": order_id, "sink": ring, "priority": "interactive", "deadline": _deadline(request, settings)}
    )
    try:
        check_order(order, catalog)
    except InvalidOrder as error:
        error.field = _ORDER_FIELDS.get(error.field or "", error.field)
        raise
    may_be_short = catalog.strategies[order.strategy].rejects
    return Plan(order, _ring(ring, order, catalog, settings), may_be_short, recipe)


def _generator_ids(request: MintRequest, catalog: Catalog, settings: GatewaySettings) -> tuple[str, ...]:
    """Those that are named, the only one hosted, or the default."""
    if isinstance(request.generator, str):
        return (request.generator,)
    if request.generator is not None:
        return tuple(request.generator)
    hosted = sorted(catalog.generators)
    if len(hosted) == 1:
        return (hosted[0],)
    if hosted and settings.default_generator not in hosted:
        raise InvalidOrder(
            f"several generators are hosted and none is the default: name one of {', '.join(hosted)}", field="generator"
        )
    return (settings.default_generator,)


def _labels(request: MintRequest, info: GeneratorInfo, settings: GatewaySettings) -> tuple[Labels, int]:
    labels: Labels
    if request.quota is None:
        if request.count is None:
            raise InvalidOrder("neither count nor quota is given: say how many images", field="count")
        labels = Balanced(classes=resolve_classes(request.classes, info.class_names))
        count = request.count
    else:
        if request.classes is not None:
            raise InvalidOrder("classes and quota are both given: quota names the classes too", field="classes")
        labels = Quota(counts=_quota(request.quota, info))
        count = labels.total
        if request.count not in (None, count):
            raise InvalidOrder(
                f"count is {request.count} and quota adds up to {count}: make them equal, or leave count out",
                field="count",
            )
        if count == 0:
            raise InvalidOrder("quota adds up to 0: ask for at least one image", field="quota")
    if count > settings.max_count:
        raise InvalidOrder(
            f"{count} images are more than the {settings.max_count} that one request may ask for: split it into "
            "several, each with a seed of its own",
            field="count" if request.quota is None else "quota",
        )
    return labels, count


def _quota(quota: dict[str, int], info: GeneratorInfo) -> dict[int, int]:
    counts: dict[int, int] = {}
    for given, n in quota.items():
        try:
            (index,) = resolve_classes([given], info.class_names)
        except InvalidOrder as error:
            error.field = "quota"
            raise
        if index in counts:
            raise InvalidOrder(f"quota names class {info.class_names[index]!r} twice: keep one", field="quota")
        counts[index] = n
    return counts


def _snapshot(request: MintRequest) -> SnapshotRef | None:
    return None if request.snapshot is None else SnapshotRef(channel=request.channel, version=request.snapshot)


def _fixed(keys: Keys, ref: SnapshotRef | None) -> Op[SnapshotHeader | None]:
    """The header of a classifier: of a fixed version even for `latest`, so that what is minted can be minted again."""
    return None if ref is None else (yield from read_header(keys, ref.channel, ref.version))


def _deadline(request: MintRequest, settings: GatewaySettings) -> float:
    seconds = settings.default_deadline_s if request.deadline_s is None else request.deadline_s
    if seconds > settings.max_deadline_s:
        raise InvalidOrder(
            f"a deadline of {seconds:g} s is beyond the {settings.max_deadline_s:g} s that are allowed: shorten it",
            field="deadline_s",
        )
    return time.time() + seconds


def _recipe(order: Order, weights: Sequence[str]) -> str:
    """A digest of all that the content depends on: the order, and the sha256 of all weights that it uses."""
    content = order.model_dump(mode="json", exclude={"id", "sink", "priority", "deadline"})
    text = json.dumps([content, weights], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:32]


def _ring(name: str, order: Order, catalog: Catalog, settings: GatewaySettings) -> RingSpec:
    needed = ticket_bytes(order, catalog)
    return RingSpec(
        name=name,
        slots=min(settings.reply_slots, order.tickets),
        slot_bytes=-(-needed // SLOT_GRAIN) * SLOT_GRAIN,
        ttl_s=settings.reply_ttl_s,
    )
