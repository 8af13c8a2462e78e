"""What the workers have to do at one moment: all that a fleet needs to know to grow and to shrink."""

from dataclasses import dataclass

from nonesuch.link.keys import Keys
from nonesuch.link.link import Op, script


@dataclass(frozen=True)
class Load:
    """The work of all workers of a Redis, whoever started them."""

    workers: int
    """Those that are there, by their heartbeats."""
    leased: int
    """Tickets in the hands of a worker, of which one has two at most."""
    claimable: int
    """Tickets that one more worker could claim; those that wait for room in their ring are not among them."""


def read_load(keys: Keys) -> Op[Load]:
    """The load at this moment. Does not block; takes Redis a few steps for each worker, ring and open order."""
    workers, leased, claimable = yield script("load", keys)
    return Load(workers, leased, claimable)
