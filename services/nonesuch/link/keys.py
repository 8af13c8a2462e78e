"""Every Redis key that Nonesuch uses, in one place.

`lua/prelude.lua` builds the same names for the scripts; `tests/contract/test_keys.py` holds the two together.
"""

from dataclasses import dataclass

from nonesuch.errors import InvalidValue


@dataclass(frozen=True)
class Keys:
    """The key names below one namespace, so that several services can share a Redis."""

    namespace: str = "nonesuch"

    def __post_init__(self) -> None:
        if not self.namespace or not self.namespace.replace("-", "").replace("_", "").isalnum():
            raise InvalidValue(
                f"namespace {self.namespace!r} must be letters, digits, '-' and '_': it becomes a key prefix"
            )

    @property
    def pattern(self) -> str:
        """Matches every key of this namespace."""
        return f"{self.namespace}:*"

    @property
    def nothing(self) -> str:
        """A key that is never there: scripts delete it first, so that a Redis without memory lets them go on."""
        return f"{self.namespace}:nothing"

    # -- orders and tickets ------------------------------------------------------------------------------------
    def order(self, order_id: str) -> str:
        """Hash: the order's JSON and its progress."""
        return f"{self.namespace}:order:{order_id}"

    def done(self, order_id: str) -> str:
        """Bitmap: ticket numbers that are committed."""
        return f"{self.order(order_id)}:done"

    def returned(self, order_id: str) -> str:
        """List: ticket numbers that were claimed once and must be made again."""
        return f"{self.order(order_id)}:returned"

    def attempts(self, order_id: str) -> str:
        """Hash: ticket number → times claimed."""
        return f"{self.order(order_id)}:attempts"

    def minted(self, order_id: str, number: int) -> str:
        """String with a time to live: a ticket's batch on its way into the ring."""
        return f"{self.order(order_id)}:minted:{number}"

    def tally(self, order_id: str) -> str:
        """Hash: counter → what became of the latents that were tried (`tally.Tally`)."""
        return f"{self.order(order_id)}:tally"

    def open(self, priority: str) -> str:
        """List: ids of the orders that have claimable tickets, rotated by every claim."""
        return f"{self.namespace}:open:{priority}"

    @property
    def leases(self) -> str:
        """Sorted set: `order number` → time in ms when the lease ends."""
        return f"{self.namespace}:leases"

    @property
    def deadlines(self) -> str:
        """Sorted set: order id → time in ms of its deadline."""
        return f"{self.namespace}:deadlines"

    @property
    def bell(self) -> str:
        """List that idle workers block on: one entry for each chance that there is work."""
        return f"{self.namespace}:bell"

    # -- rings -------------------------------------------------------------------------------------------------
    @property
    def rings(self) -> str:
        """Sorted set: ring name → time in ms when it expires unless its consumer shows up."""
        return f"{self.namespace}:rings"

    def ring(self, name: str) -> str:
        """Hash: the ring's limits and counters."""
        return f"{self.namespace}:ring:{name}"

    def ready(self, name: str) -> str:
        """List: descriptors of unread batches, oldest first."""
        return f"{self.ring(name)}:ready"

    def in_hand(self, name: str) -> str:
        """List: descriptors that the consumer took and has not released."""
        return f"{self.ring(name)}:in_hand"

    def free(self, name: str) -> str:
        """List: numbers of the ring's free slots."""
        return f"{self.ring(name)}:free"

    def orders(self, name: str) -> str:
        """Set: ids of the open orders that deliver to the ring."""
        return f"{self.ring(name)}:orders"

    def slot(self, name: str, number: int) -> str:
        """String: one batch, an Arrow IPC stream."""
        return f"{self.ring(name)}:slot:{number}"

    def reader(self, name: str) -> str:
        """String with a time to live: who reads the ring, where several processes may."""
        return f"{self.ring(name)}:reader"

    # -- snapshots ---------------------------------------------------------------------------------------------
    def snapshots(self, channel: str) -> str:
        """Sorted set: the versions that are kept. Its highest member is the pointer that readers follow."""
        return f"{self.namespace}:snapshots:{channel}"

    def pins(self, channel: str) -> str:
        """Hash: version → number of open orders that name it."""
        return f"{self.snapshots(channel)}:pins"

    def snapshot(self, channel: str, version: int) -> str:
        """Hash: the JSON header and the number of chunks."""
        return f"{self.snapshots(channel)}:{version}"

    def chunk(self, channel: str, version: int, number: int) -> str:
        """String: a part of the safetensors payload."""
        return f"{self.snapshot(channel, version)}:{number}"

    def staged(self, channel: str, version: int, sha256: str, number: int) -> str:
        """String with a time to live: a part of a payload that is not published yet."""
        return f"{self.snapshot(channel, version)}:{sha256}:{number}"

    @property
    def channels(self) -> str:
        """Set: the channels that hold snapshots."""
        return f"{self.namespace}:channels"

    # -- callers of the gateway --------------------------------------------------------------------------------
    def spent(self, token_id: str, meter: str) -> str:
        """Hash with a time to live: part of a window → what a token used of one of its limits in it."""
        return f"{self.namespace}:spent:{token_id}:{meter}"

    def once(self, token_id: str, digest: str) -> str:
        """String with a time to live: what a request with an Idempotency-Key was, and what came of it."""
        return f"{self.namespace}:once:{token_id}:{digest}"

    # -- workers -----------------------------------------------------------------------------------------------
    @property
    def workers(self) -> str:
        """Set: ids of the workers that announced themselves."""
        return f"{self.namespace}:workers"

    def worker(self, worker_id: str) -> str:
        """String with a time to live: one worker's heartbeat."""
        return f"{self.namespace}:worker:{worker_id}"
