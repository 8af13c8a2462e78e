"""Minting with snapshots: fetches the one that a ticket's order names and hands both to the minter."""

import os
import socket
import time
import uuid
from collections import OrderedDict

import torch

from nonesuch.classifiers.snapshot import load_on_generated
from nonesuch.errors import SnapshotNotFound
from nonesuch.host.allocator import block_faults
from nonesuch.link import Link
from nonesuch.offers import WorkerInfo
from nonesuch.orders import SnapshotRef
from nonesuch.snapshots import fetch, latest_version
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.load import load_generator, packaged
from nonesuch_worker.minting.loop import TicketLoop
from nonesuch_worker.minting.minter import Classifier, MintedTicket, Minter
from nonesuch_worker.settings import WorkerSettings
from nonesuch_worker.strategies.registry import describe, strategy

KEPT_SNAPSHOTS = 4


class SnapshotCache:
    """The classifiers of the last few snapshots, on the worker's device."""

    def __init__(self, link: Link, device: torch.device) -> None:
        self._link = link
        self._device = device
        self._loaded: OrderedDict[tuple[str, int], Classifier] = OrderedDict()

    def get(self, ref: SnapshotRef) -> Classifier:
        """The classifier of a snapshot.

        Asks Redis for the version, and for weights only when they are new.
        Raises `SnapshotNotFound`, `InvalidSnapshot`, `IntegrityError`, `Unreachable`.
        """
        version = ref.version
        if version == "latest":
            newest = self._link.run(latest_version(self._link.keys, ref.channel))
            if newest is None:
                raise SnapshotNotFound(f"no snapshot was published in channel {ref.channel!r}: publish one first")
            version = newest
        key = (ref.channel, version)
        if key not in self._loaded:
            header, payload = self._link.run(fetch(self._link.keys, ref.channel, version))
            self._loaded[key] = Classifier(load_on_generated(header, payload, self._device), header)
            while len(self._loaded) > KEPT_SNAPSHOTS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]


class MintingService:
    """Mints tickets with the generators of one device. A channel's version is asked for once per ticket."""

    def __init__(self, minter: Minter, snapshots: SnapshotCache) -> None:
        self._minter = minter
        self._snapshots = snapshots

    def mint(self, ticket: Ticket) -> MintedTicket:
        """The ticket's images. Raises `InvalidValue` or `NotFound` for what no other worker could make either."""
        order = ticket.order
        aims = order.snapshot is not None and strategy(order.strategy).needs_snapshot
        snapshot = self._snapshots.get(order.snapshot) if aims and order.snapshot else None
        teacher = self._snapshots.get(order.teacher) if order.teacher else None
        return self._minter.mint(ticket, snapshot, teacher)


def make_loop(settings: WorkerSettings, device: torch.device) -> TicketLoop:
    """A worker for one device, generators loaded, ready to run."""
    generators = [load_generator(source, device) for source in settings.generators or packaged()]
    link = Link(settings.redis)
    info = WorkerInfo(
        id=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
        host=socket.gethostname(),
        pid=os.getpid(),
        device=str(device),
        threads=torch.get_num_threads(),
        block_faults=block_faults(),
        started=time.time(),
        generators=tuple(g.info for g in generators),
        strategies=describe(),
    )
    minter = Minter(generators, settings.micro_batch)
    return TicketLoop(link, MintingService(minter, SnapshotCache(link, device)), info)
