"""Everything that can be asked of a gateway, without any I/O: see `wire`."""

from nonesuch.client.calls.large_orders import LargeOrders
from nonesuch.client.calls.minting import Minting
from nonesuch.client.calls.snapshots import Snapshots


class Calls(Minting, LargeOrders, Snapshots):
    """The calls of a client."""
