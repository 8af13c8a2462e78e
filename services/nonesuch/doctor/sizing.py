"""What a setup takes of memory, by formula, before any of it is started. `nonesuch doctor --plan` prints it.

What Redis takes is a bound: rings, replies and orders have limits, and nothing else in it is large. What processes take
starts from what was measured on a CPU (docs/operations.md), and is an estimate.
"""

from dataclasses import dataclass

from nonesuch.doctor.plan import MIB, Setup
from nonesuch.offers import GeneratorInfo
from nonesuch.orders import MAX_OPEN_ORDERS, default_ticket_size
from nonesuch.schema import batch_bytes
from nonesuch.snapshots import CHUNK_BYTES

_OVERHEAD = 12
"""Bytes around a large value in Redis: a header of 9, and the 3 that end it in the protocol and in C."""
ROUNDING = 1.25
"""The most that Redis' allocator adds to a value beyond 64 KiB (`allocated`)."""
REDIS_BYTES = 2 * MIB
"""Bytes of an empty Redis with our scripts."""
ORDER_BYTES = 8 * 1024
"""Bytes of an open order and an empty ring of eight slots: 5 KiB, and some for its tickets."""
CONNECTION_BYTES = 48 * 1024
SHORT_COMMANDS = 64
"""Connections of a gateway beside those of the requests that mint (`nonesuch_gateway.settings`)."""

PROCESS_BYTES = {"gateway": 200 * MIB, "worker": 475 * MIB, "ray": 768 * MIB, "trainer": 900 * MIB}
"""Bytes of a process of the default setup, by kind. `ray` is Ray with the fleet's driver, once for each machine."""
LOADING = 4
"""Copies of a generator's weights while it is brought into its minting form; afterwards micro-batches live there."""
_ROW_BYTES = 36
"""Bytes of a resident image beside its pixels: label, order, index, snapshot (8 each) and birth (4)."""


@dataclass(frozen=True)
class Line:
    """One part of the plan."""

    what: str
    formula: str
    bytes: int


def allocated(size: int) -> int:
    """Bytes that Redis takes for a value: its allocator, jemalloc, has four sizes between one power of two and the next
    (jemalloc(3), "size classes"). So 4 MiB, with what is around them, would take 5."""
    size += _OVERHEAD
    step = max(16, 1 << ((size - 1).bit_length() - 3))
    return -(-size // step) * step


def slot_bytes(setup: Setup) -> int:
    """Bytes of a slot for tickets of the default size."""
    facts = setup.facts
    shape = (facts.side, facts.side, facts.channels)
    names = tuple(f"{i:032d}" for i in range(facts.classes))  # as long as the longer ones of ImageNet
    info = GeneratorInfo(
        id=setup.generator[:64], family="planned", sha256="0" * 64, image_shape=shape, class_names=names,
        z_dim=facts.z_dim,
    )  # fmt: skip
    return batch_bytes(info, default_ticket_size(shape))


def snapshot_bytes(payload: int) -> int:
    """Bytes that Redis takes for one snapshot."""
    chunks, rest = divmod(payload, CHUNK_BYTES)
    return chunks * allocated(CHUNK_BYTES) + (allocated(rest) if rest else 0)


def redis_lines(setup: Setup) -> list[Line]:
    """What Redis takes at most."""
    limits, slot = setup.limits, allocated(slot_bytes(setup))
    snapshot = snapshot_bytes(int(setup.snapshot_mb * 1e6))
    trainers, gateways = _of(setup.trainers, "trainer"), _of(setup.gateways, "gateway")
    sending = setup.trainers + setup.gateways * limits.max_streams
    chunk = min(allocated(CHUNK_BYTES), snapshot)
    connections = setup.gateways * (limits.max_streams + SHORT_COMMANDS) + 4 * setup.workers + 2 * setup.trainers
    return [
        Line(
            "rings of trainers",
            f"{trainers} × {setup.ring_slots} slots × {_size(slot)}",
            setup.trainers * setup.ring_slots * slot,
        ),
        Line(
            "rings of replies",
            f"{gateways} × max_reply_bytes {_size(limits.max_reply_bytes)} × {ROUNDING:g}",
            int(setup.gateways * limits.max_reply_bytes * ROUNDING),
        ),
        Line(
            "rings of orders over HTTP",
            f"max_orders {limits.max_orders} × order_bytes {_size(limits.order_bytes)} × {ROUNDING:g}",
            int(limits.max_orders * limits.order_bytes * ROUNDING),
        ),
        Line(
            "snapshots",
            f"{trainers} × ({setup.snapshots_kept} kept + 1 coming) × {_size(snapshot)}",
            setup.trainers * (setup.snapshots_kept + 1) * snapshot,
        ),
        Line(
            "batches that are sent",
            f"({trainers} + {gateways} × max_streams {limits.max_streams}) × {_size(slot)}",
            sending * slot,
        ),
        Line(
            "batches and snapshots at workers",
            f"{_of(setup.workers, 'worker')} × ({_size(slot)} + {_size(chunk)})",
            setup.workers * (slot + chunk),
        ),
        Line("open orders", f"{MAX_OPEN_ORDERS} × {_size(ORDER_BYTES)}", MAX_OPEN_ORDERS * ORDER_BYTES),
        Line("connections", f"{connections} × {_size(CONNECTION_BYTES)}", connections * CONNECTION_BYTES),
        Line("Redis itself", _size(REDIS_BYTES), REDIS_BYTES),
    ]


def process_lines(setup: Setup) -> list[Line]:
    """What one process of each kind takes on a CPU."""
    limits, facts = setup.limits, setup.facts
    base = PROCESS_BYTES
    weights, snapshot = int(facts.weights_mb * 1e6), int(setup.snapshot_mb * 1e6)
    row = resident_row_bytes((facts.side, facts.side, facts.channels), facts.classes if setup.soft_labels else 0)
    fresh = round(setup.replacement * setup.images)
    return [
        Line(
            "each gateway, at worst",
            f"{_size(base['gateway'])} + max_streams {limits.max_streams} × buffer_bytes {_size(limits.buffer_bytes)}"
            f" + max_reply_bytes {_size(limits.max_reply_bytes)}"
            f" + max_uploads {limits.max_uploads} × max_snapshot_bytes {_size(limits.max_snapshot_bytes)}",
            base["gateway"]
            + limits.max_streams * limits.buffer_bytes
            + limits.max_reply_bytes
            + limits.max_uploads * limits.max_snapshot_bytes,
        ),
        Line(
            "each worker",
            f"{_size(base['worker'])} + {LOADING} × weights {_size(weights)}",
            base["worker"] + LOADING * weights,
        ),
        Line("Ray, on each machine with workers", _size(base["ray"]), base["ray"]),
        Line(
            "each trainer",
            f"{_size(base['trainer'])} + 2 × ({setup.images} + {fresh} images) × {row} B + 4 × {_size(snapshot)}",
            base["trainer"] + 2 * (setup.images + fresh) * row + 4 * snapshot,
        ),
    ]


def resident_row_bytes(image_shape: tuple[int, int, int], soft_classes: int = 0) -> int:
    """Bytes of one image in a trainer's resident dataset, of (H, W, C); soft labels take two for each class."""
    height, width, channels = image_shape
    return height * width * channels + _ROW_BYTES + 2 * soft_classes


def maxmemory(lines: list[Line]) -> int:
    """The `maxmemory` for these lines, in bytes: their sum, rounded up to 64 MiB."""
    return -(-sum(line.bytes for line in lines) // (64 * MIB)) * 64 * MIB


def _of(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _size(number: int) -> str:
    return f"{number / 1024:.0f} KiB" if number < MIB else f"{number / MIB:.4g} MiB"
