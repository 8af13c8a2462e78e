"""Everything that can be asked of a gateway, without any I/O: see `wire`."""

from nonesuch.client.large_orders import LargeOrders
from nonesuch.client.minting import Minting
from nonesuch.client.snapshots import Snapshots


class Calls(Minting, LargeOrders, Snapshots):
    """The calls of a client."""
