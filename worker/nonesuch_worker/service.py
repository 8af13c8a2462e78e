"""From a ticket to a batch: fetches the snapshot that the order names and hands both to the minter."""

import os
import socket
import time
import uuid
from collections import OrderedDict

import pyarrow as pa
import torch
from torch import nn

from nonesuch.catalog import WorkerInfo
from nonesuch.classifiers.normalisation import Normalisation, OnGenerated
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.errors import InvalidOrder, SnapshotNotFound
from nonesuch.link import Link
from nonesuch.orders import SnapshotRef
from nonesuch.snapshots import fetch, latest_version
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.load import load_generator, packaged
from nonesuch_worker.loop import TicketLoop
from nonesuch_worker.minter import Minter
from nonesuch_worker.settings import WorkerSettings
from nonesuch_worker.strategies.registry import describe, strategy

KEPT_SNAPSHOTS = 2


class SnapshotCache:
    """The classifiers of the last few snapshots, on the worker's device."""

    def __init__(self, link: Link, device: torch.device) -> None:
        self._link = link
        self._device = device
        self._loaded: OrderedDict[tuple[str, int], nn.Module] = OrderedDict()

    def get(self, ref: SnapshotRef) -> tuple[nn.Module, int]:
        """The classifier of a snapshot and its version: images (B, C, H, W) in [-1, 1] to logits, in eval mode.

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
            network = load_snapshot(header, payload, self._device)
            self._loaded[key] = OnGenerated(network, Normalisation(mean=header.mean, std=header.std)).eval()
            while len(self._loaded) > KEPT_SNAPSHOTS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key], version


class MintingService:
    """Mints tickets with the generators of one device. A channel's version is asked for once per ticket."""

    def __init__(self, minter: Minter, snapshots: SnapshotCache) -> None:
        self._minter = minter
        self._snapshots = snapshots

    def mint(self, ticket: Ticket) -> pa.RecordBatch:
        """The ticket's batch. Raises `InvalidValue` or `NotFound` for what no other worker could make either."""
        order = ticket.order
        if not strategy(order.strategy).needs_snapshot:
            return self._minter.mint(ticket, None, None)
        if order.snapshot is None:
            raise InvalidOrder(f"strategy {order.strategy!r} needs a snapshot, and the order names none")
        classifier, version = self._snapshots.get(order.snapshot)
        return self._minter.mint(ticket, classifier, version)


def make_loop(settings: WorkerSettings, device: torch.device) -> TicketLoop:
    """A worker for one device, generators loaded, ready to run."""
    generators = [load_generator(source, device) for source in settings.generators or packaged()]
    link = Link(settings.redis)
    info = WorkerInfo(
        id=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}",
        host=socket.gethostname(),
        pid=os.getpid(),
        device=str(device),
        started=time.time(),
        generators=tuple(g.info for g in generators),
        strategies=describe(),
    )
    minter = Minter(generators, settings.micro_batch)
    return TicketLoop(link, MintingService(minter, SnapshotCache(link, device)), info)
