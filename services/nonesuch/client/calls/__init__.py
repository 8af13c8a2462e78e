"""Everything that can be asked of a gateway, without any I/O: see `nonesuch.client.exchange.wire`."""

from nonesuch.client.calls.large_orders import LargeOrderCalls
from nonesuch.client.calls.minting import MintingCalls
from nonesuch.client.calls.snapshots import SnapshotCalls


class Calls(MintingCalls, LargeOrderCalls, SnapshotCalls):
    """Every call of a client."""
