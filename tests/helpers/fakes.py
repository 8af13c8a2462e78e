"""What the contract tests share: a catalogue with one fake worker, and batches that cost nothing to make."""

import numpy as np

from nonesuch.labels import Balanced
from nonesuch.offers import Catalog, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.orders import Order
from nonesuch.rings import RingSpec
from nonesuch.schema import Rows, make_batch, write_batch
from nonesuch.tickets import Ticket

INFO = GeneratorInfo(
    id="fake",
    family="fake",
    sha256="0" * 64,
    image_shape=(4, 4, 1),
    class_names=("ant", "bee", "cat"),
    z_dim=2,
    max_sigma=2.0,
)
SCHEMA = {
    "type": "object",
    "properties": {
        "sigma": {"type": "number", "exclusiveMinimum": 0},
        "verify": {"type": "boolean", "needs": "teacher"},
        "weights": {"type": "array"},
    },
}
WORKER = WorkerInfo(
    id="w0",
    host="here",
    pid=1,
    device="cpu",
    started=0.0,
    generators=(
        INFO,
        INFO.model_copy(update={"id": "flat", "differentiable": False}),
        INFO.model_copy(update={"id": "twin"}),
    ),
    strategies=(
        StrategyInfo(name="random", schema=SCHEMA),
        StrategyInfo(name="mined", schema=SCHEMA, needs_snapshot=True, needs_gradient=True),
        StrategyInfo(name="choosy", schema=SCHEMA, needs_teacher=True),
        StrategyInfo(name="mixed", schema=SCHEMA, mixes=True),
    ),
)
CATALOG = Catalog(workers=(WORKER,))


def ring(name: str = "ring", **limits: object) -> RingSpec:
    return RingSpec.model_validate({"name": name, "slots": 4, "slot_bytes": 65_536, **limits})


def order(order_id: str, **given: object) -> Order:
    defaults = {"generators": ("fake",), "labels": Balanced(classes=(0, 1, 2)), "count": 10, "ticket_size": 2}
    return Order.model_validate({"id": order_id, "sink": "ring", **defaults, **given})


def payload(ticket: Ticket) -> bytes:
    """A ticket's batch: images whose every pixel is the index modulo 256."""
    n = len(ticket.indices)
    images = np.broadcast_to((ticket.indices % 256).astype(np.uint8)[:, None, None, None], (n, 4, 4, 1))
    rows = Rows(images, ticket.order.labels.of(ticket.indices), ticket.indices, np.zeros(n, np.int32), sigma=1.0)
    return write_batch(
        make_batch(rows, order=ticket.order.id, seed=ticket.order.seed, strategy="random", generators=[INFO])
    )
