"""Orders: what to make. Everything that is produced was ordered.

    place ──► open ──► every ticket committed ──► end "done"
               │──► a ticket failed too often ──► end "failed"
               │──► cancel ─────────────────────► end "cancelled"
               └──► deadline passed ────────────► end "expired"

An order's keys go when it ends; how it ended arrives in its ring as the last entry (`rings.OrderEnd`).
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import jsonschema
from pydantic import Field, JsonValue, ValidationError, model_validator

from nonesuch.catalog import read_catalog
from nonesuch.effects import Op
from nonesuch.errors import Busy, InvalidOrder, NoWorkers, RingClosed, SnapshotNotFound
from nonesuch.labels import Labels
from nonesuch.link import Call, Keys, script
from nonesuch.model import Frozen, Name
from nonesuch.offers import NOBODY, Catalog, GeneratorInfo, StrategyInfo
from nonesuch.rings import ring_spec
from nonesuch.schema import batch_bytes
from nonesuch.snapshots import misfit, read_header
from nonesuch.tally import Tally

Priority = Literal["interactive", "bulk"]
State = Literal["done", "failed", "cancelled", "expired"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

TICKET_BYTES = 4 * 2**20
"""How many bytes the images of a ticket have at most unless it is told another size: a larger value in Redis keeps
every other client waiting for too long."""
MAX_TICKET = 1024
MAX_OPEN_ORDERS = 1024


class SnapshotRef(Frozen):
    """The snapshot that a strategy aims at: a fixed version, or whichever is the latest when a ticket is minted."""

    channel: Name = "default"
    version: Annotated[int, Field(ge=0)] | Literal["latest"] = "latest"

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """What `channel` or `channel@version` names. Raises `InvalidOrder` that names the field."""
        channel, _, version = text.partition("@")
        try:
            return cls(channel=channel, version=int(version) if version.isdecimal() else version or "latest")  # type: ignore[arg-type]
        except ValidationError:
            raise InvalidOrder(
                f"{field} {text!r} is not of the form channel or channel@version: version is a number or latest",
                field=field,
            ) from None


class Order(Frozen):
    """An immutable order. Index i of `range(count)` has a fixed label and, by (seed, i), a fixed latent."""

    id: Name = Field(default_factory=lambda: uuid.uuid4().hex)
    generators: tuple[Name, ...] = Field(min_length=1)
    strategy: Name = "random"
    params: dict[str, JsonValue] = Field(default_factory=dict)
    labels: Labels
    count: int = Field(ge=1, le=10_000_000)
    seed: Seed = 0
    snapshot: SnapshotRef | None = None
    """The classifier that a strategy aims at."""
    teacher: SnapshotRef | None = None
    """An independent classifier that says what an image shows: it filters, verifies, and gives soft labels."""
    sink: Name
    """The ring that the order's batches go to."""
    priority: Priority = "bulk"
    deadline: float | None = None
    """When the order expires, in seconds of Unix time; None: never."""
    ticket_size: int = Field(default=64, ge=1, le=MAX_TICKET)

    @property
    def tickets(self) -> int:
        """How many tickets the order has."""
        return -(-self.count // self.ticket_size)

    @model_validator(mode="after")
    def _labels_cover_the_count(self) -> "Order":
        total = self.labels.total
        if total is not None and total != self.count:
            raise ValueError(f"labels name {total} images but count is {self.count}: make them equal")
        return self


def default_ticket_size(image_shape: tuple[int, int, int]) -> int:
    """64 images, or as many as fit in 4 MiB if that is fewer."""
    h, w, c = image_shape
    return max(1, min(64, TICKET_BYTES // (h * w * c)))


@dataclass(frozen=True)
class Checked:
    """An order that some live worker can fill, by the catalogue that it was held against."""

    order: Order
    info: GeneratorInfo
    """What is known of the order's (first) generator; all of them make images of the same shape and classes."""
    ticket_bytes: int
    """The most bytes that a ticket takes, whichever of its generators makes it: what a slot must hold."""
    may_be_short: bool
    """Whether the order's strategy may leave indices out."""


def check_order(order: Order, catalog: Catalog) -> Checked:
    """Refuse what no live worker could fill.

    Raises `NoWorkers`, `GeneratorNotFound`, or `InvalidOrder` with the field, the value and the remedy.
    """
    infos = [catalog.generator(g) for g in order.generators]
    first = infos[0]
    for other in infos[1:]:
        if (other.image_shape, other.class_names) != (first.image_shape, first.class_names):
            raise InvalidOrder(
                f"generators {first.id!r} {first.image_shape} and {other.id!r} {other.image_shape} differ in image "
                "shape or classes: an order mixes generators of the same kind only",
                field="generators",
            )
    beyond = [c for c in order.labels.used if c >= len(first.class_names)]
    if beyond:
        raise InvalidOrder(
            f"class {beyond[0]} is unknown: generator {first.id!r} has classes 0 to {len(first.class_names) - 1}",
            field="labels",
        )
    strategy = _check_strategy(order, catalog, infos)
    if order.deadline is not None and order.deadline <= time.time():
        raise InvalidOrder(f"deadline {order.deadline} has passed: give a later time", field="deadline")
    needed = max(batch_bytes(info, min(order.ticket_size, order.count)) for info in infos)
    return Checked(order, first, needed, strategy.rejects)


def _check_strategy(order: Order, catalog: Catalog, infos: Sequence[GeneratorInfo]) -> StrategyInfo:
    strategy = catalog.strategies.get(order.strategy)
    if strategy is None:
        known = ", ".join(sorted(catalog.strategies))
        raise InvalidOrder(f"unknown strategy {order.strategy!r}: the workers know {known}", field="strategy")
    for error in jsonschema.Draft202012Validator(strategy.schema_).iter_errors(order.params):
        where = ".".join(map(str, error.absolute_path))
        problem = f"{where} {error.instance!r} cannot be used: {_said(error)}" if where else error.message
        hint = f" ({error.schema['description']})" if "description" in error.schema else ""
        raise InvalidOrder(f"strategy {order.strategy!r}: {problem}{hint}", field=f"params.{where}".rstrip("."))
    _check_classifiers_named(order, strategy)
    _check_mixture(order, strategy, infos)
    for info in infos:
        if strategy.needs_gradient and not info.differentiable:
            raise InvalidOrder(
                f"strategy {order.strategy!r} follows gradients and generator {info.id!r} has none", field="generators"
            )
        sigma: Any = order.params.get("sigma", 1.0)
        if isinstance(sigma, int | float) and sigma > info.max_sigma:
            raise InvalidOrder(
                f"sigma {sigma} is beyond what generator {info.id!r} allows ({info.max_sigma})", field="params.sigma"
            )
    return strategy


def _said(error: jsonschema.ValidationError) -> str:
    """What may be given instead, where the schema of a parameter says it: the whole range, of each alternative."""
    schema: Any = error.schema
    if error.validator not in (*_BOUNDS, "anyOf"):
        return error.message
    kinds = {"number": "a number", "integer": "a whole number"}
    allowed = []
    for part in schema.get("anyOf", [schema]):
        bounds = [f"{words} {part[key]}" for key, words in _BOUNDS.items() if key in part]
        if bounds and part.get("type") in kinds:
            allowed.append(f"{kinds[part['type']]} {', '.join(bounds)}")
    return f"give {' or '.join(allowed)}" if allowed else error.message


_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


def _check_classifiers_named(order: Order, strategy: StrategyInfo) -> None:
    if strategy.needs_snapshot and order.snapshot is None:
        raise InvalidOrder(f"{order.strategy} needs a snapshot: name a version or 'latest'", field="snapshot")
    if order.teacher is not None:
        if order.teacher == order.snapshot:
            raise InvalidOrder(
                f"teacher and snapshot are both version {order.teacher.version} of channel {order.teacher.channel!r}: "
                "a teacher is another classifier than the one that is aimed at",
                field="teacher",
            )
        return
    if strategy.needs_teacher:
        raise InvalidOrder(
            f"{order.strategy} needs a teacher: name the channel of a classifier that was published", field="teacher"
        )
    for name, schema in strategy.schema_.get("properties", {}).items():
        if schema.get("needs") == "teacher" and order.params.get(name):
            raise InvalidOrder(
                f"{order.strategy} with {name} needs a teacher: name the channel of a classifier that was published, "
                f"or leave {name} out",
                field="teacher",
            )


def _check_mixture(order: Order, strategy: StrategyInfo, infos: Sequence[GeneratorInfo]) -> None:
    if len(infos) > 1 and not strategy.mixes:
        raise InvalidOrder(
            f"strategy {order.strategy!r} uses one generator and the order names {len(infos)}: "
            "name one, or choose strategy 'mixture'",
            field="generators",
        )
    weights: Any = order.params.get("weights")
    if weights is not None and len(weights) != len(infos):
        raise InvalidOrder(
            f"{len(weights)} weights are given for {len(infos)} generator(s): give one for each, or leave them out",
            field="params.weights",
        )


def check_classifiers(keys: Keys, order: Order, info: GeneratorInfo) -> Op[None]:
    """Refuse a snapshot or a teacher that cannot look at the generator's images. Reads their headers.

    Raises `SnapshotNotFound`, and `InvalidOrder` for other images or other classes.
    """
    for field, ref in (("snapshot", order.snapshot), ("teacher", order.teacher)):
        if ref is None:
            continue
        header = yield from read_header(keys, ref.channel, ref.version)
        if reason := misfit(header, info):
            raise InvalidOrder(f"{field} {header.version} of channel {ref.channel!r} {reason}", field=field)


def place(keys: Keys, order: Order | Checked, *, done: Sequence[int] = ()) -> Op[None]:
    """Place an order. Does not block; placing the same order again changes nothing.

    One that was checked against the catalogue of this moment is not checked again. `done` are numbers of tickets that
    need not be made (the caller has them from before Redis was restarted).
    Raises what `check_order` and `check_classifiers` raise, `RingClosed` when the sink is not there, `Busy` at
    `MAX_OPEN_ORDERS`, and `InvalidOrder` for an id that stands for another order.
    """
    checked = order if isinstance(order, Checked) else check_order(order, (yield from read_catalog(keys)))
    order, info = checked.order, checked.info
    yield from check_classifiers(keys, order, info)
    ring = yield from ring_spec(keys, order.sink)
    if checked.ticket_bytes > ring.slot_bytes:
        raise InvalidOrder(
            f"a ticket of {order.ticket_size} images of {info.image_shape} takes {checked.ticket_bytes} bytes and a "
            f"slot of ring {order.sink!r} holds {ring.slot_bytes}: order smaller tickets or open the ring with larger "
            "slots",
            field="ticket_size",
        )
    named = [[ref.channel, str(ref.version)] for ref in (order.snapshot, order.teacher) if ref is not None]
    reply: bytes = yield script(
        "place", keys, order.id, order.model_dump_json(), order.sink, order.priority, order.tickets, order.count,
        "" if order.deadline is None else int(order.deadline * 1000), ",".join(order.generators), json.dumps(named),
        MAX_OPEN_ORDERS, *done,
    )  # fmt: skip
    match reply.decode():
        case "placed" | "exists":
            return
        case "no ring":
            raise RingClosed(f"ring {order.sink!r} is not open: open it before placing orders that deliver to it")
        case "full":
            raise Busy(f"{MAX_OPEN_ORDERS} orders are open, which is the limit: try again when some have ended")
        case "no snapshot":
            raise SnapshotNotFound(
                f"a snapshot of {named} (channel, version) is not there: publish it first, or name one that is kept"
            )
        case _:
            raise InvalidOrder(f"order id {order.id!r} is taken by an order with other contents", field="id")


def cancel(keys: Keys, order_id: str) -> Op[bool]:
    """End an order now: its tickets are withdrawn, its ring gets the end "cancelled". False if it was not open."""
    ended: int = yield script("cancel", keys, order_id, "cancelled", "cancelled by its owner")
    return bool(ended)


@dataclass(frozen=True)
class Progress:
    """How far an open order is."""

    tickets_left: int
    delivered: int
    """How many images were delivered to the order's ring."""
    tally: Tally


def progress_of(keys: Keys, order_id: str) -> Op[Progress | None]:
    """How far an order is; None if it is not open. How it ended is in its ring."""
    left, delivered = yield Call("HMGET", keys.order(order_id), "left", "delivered")
    if left is None:
        return None
    counters: dict[bytes, bytes] = yield Call("HGETALL", keys.tally(order_id))
    return Progress(int(left), int(delivered), Tally.from_counters({k.decode(): int(n) for k, n in counters.items()}))


def wait_for_workers(keys: Keys) -> Op[Catalog]:
    """The catalogue, or `NoWorkers` if nobody is in it."""
    catalog = yield from read_catalog(keys)
    if not catalog.workers:
        raise NoWorkers(NOBODY)
    return catalog


def parse_params(pairs: Sequence[str]) -> dict[str, JsonValue]:
    """Parameters of a strategy from `name=value` texts; a value is JSON, or else a plain string.

    Raises `InvalidOrder` for a text without `=`.
    """
    params: dict[str, JsonValue] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise InvalidOrder(f"parameter {pair!r} is not of the form name=value", field="params")
        try:
            params[name] = json.loads(value)
        except json.JSONDecodeError:
            params[name] = value
    return params
