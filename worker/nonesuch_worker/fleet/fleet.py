"""The fleet: one worker for each accelerator of the cluster, whatever joins, leaves or dies.

    reconcile   waits for: its interval ── compares the seats that should be taken with those that are

Plain Python: where workers run and how they are started is behind `Host`, which `ray_host.py` fills with Ray. Which
nodes have workers is behind `Serving`: all, unless the fleet is elastic (`nodes.py`).
"""

import logging
import threading
import time
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nonesuch.errors import InvalidValue

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
GRACE_S = 10.0
"""Seconds that workers which are to stop have for their tickets in hand."""
MAX_BACKOFF_S = 30.0


@dataclass(frozen=True, order=True)
class Node:
    """A machine of the cluster."""

    id: str
    cpus: int
    gpus: int


@dataclass(frozen=True, order=True)
class Seat:
    """A place for one worker: an accelerator of a node, or a share of its CPU."""

    node: str
    number: int
    gpu: bool
    threads: int
    """CPU threads for the worker."""


class Host(Protocol):
    """The place that workers run in. A worker is an opaque handle."""

    def nodes(self) -> list[Node]:
        """The machines that are alive now and take work."""
        ...

    def start(self, seat: Seat) -> Hashable:
        """Start a worker; returns at once."""
        ...

    def failure(self, worker: Hashable) -> str | None:
        """Why the worker ended, or None while it runs. Does not block."""
        ...

    def retire(self, worker: Hashable) -> None:
        """Ask a worker to end after the tickets in hand, however long they take; returns at once."""
        ...

    def stop(self, workers: Iterable[Hashable], grace_s: float) -> None:
        """Let the workers finish the ticket in hand; end by force what still runs after `grace_s` seconds."""
        ...


class Serving(Protocol):
    """Chooses the nodes that are to have workers."""

    def serving(self, nodes: Sequence[Node], working: Collection[str], now: float) -> Sequence[Node]:
        """Some of `nodes`. `working` are the ids of those that have a worker now."""
        ...

    def close(self) -> None:
        """Called when the fleet ends."""
        ...


def seats(nodes: Iterable[Node], workers: int, threads: int | None = None) -> set[Seat]:
    """The seats of a cluster: one for each GPU; on a node without any, `workers`. Those of a node share its cores.
    A node with neither cores nor GPUs, as a Ray head is often started, has none.

    Args:
        threads: CPU threads of each instead of its share.
    """
    if workers < 1:
        raise InvalidValue(f"{workers} workers make nothing: give at least 1")
    wanted = set()
    for node in nodes:
        if not (node.cpus or node.gpus):
            continue
        places = node.gpus or workers
        share = threads or max(1, node.cpus // places)
        wanted |= {Seat(node.id, i, node.gpus > 0, share) for i in range(places)}
    return wanted


@dataclass
class _Taken:
    worker: Hashable
    started: float
    retired: bool = False
    """Whether the worker was asked to end, as its node no longer serves."""


@dataclass
class Fleet:
    """Keeps every seat taken. A worker that dies is restarted, ever later while it keeps dying young."""

    host: Host
    workers: int = 1
    threads: int | None = None
    elastic: Serving | None = None
    interval_s: float = INTERVAL_S
    _taken: dict[Seat, _Taken] = field(default_factory=dict)
    _deaths: dict[Seat, int] = field(default_factory=dict)
    _not_before: dict[Seat, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        seats([], self.workers)  # refuses an impossible number now, not at the first node

    def run(self) -> None:
        """Reconcile until `stop`, then stop the workers. Blocks."""
        try:
            while not self._stop.is_set():
                self.reconcile(time.monotonic())
                self._stop.wait(self.interval_s)
        finally:
            self.host.stop([taken.worker for taken in self._taken.values()], grace_s=GRACE_S)
            self._taken.clear()
            if self.elastic is not None:
                self.elastic.close()

    def stop(self) -> None:
        """Ask `run` to return. May be called from a signal handler."""
        self._stop.set()

    def reconcile(self, now: float) -> None:
        """One step: forget workers that ended or whose node leaves, retire those of a node that no longer serves, start
        those that are missing. Blocks while workers on a node that leaves finish their tickets, `GRACE_S` at most.
        """
        nodes = self.host.nodes()
        wanted = seats(self._serving(nodes, now), self.workers, self.threads)
        self._leave(self._taken.keys() - seats(nodes, self.workers, self.threads))
        for seat, taken in list(self._taken.items()):
            if (reason := self.host.failure(taken.worker)) is not None:
                self._bury(seat, taken, reason, now)
            elif seat not in wanted and not taken.retired:
                self.host.retire(taken.worker)
                taken.retired = True
        for seat in sorted(wanted - self._taken.keys()):
            if now >= self._not_before.get(seat, 0.0):
                self._taken[seat] = _Taken(self.host.start(seat), now)
                log.info("started worker %d on node %s", seat.number, seat.node)

    def _serving(self, nodes: Sequence[Node], now: float) -> Sequence[Node]:
        if self.elastic is None:
            return nodes
        return self.elastic.serving(nodes, {seat.node for seat in self._taken}, now)

    def _leave(self, left: Iterable[Seat]) -> None:
        workers = []
        for seat in sorted(left):
            log.warning("node %s leaves, and with it worker %d", seat.node, seat.number)
            self._deaths.pop(seat, None)
            workers.append(self._taken.pop(seat).worker)
        if workers:
            self.host.stop(workers, grace_s=GRACE_S)

    def _bury(self, seat: Seat, taken: _Taken, reason: str, now: float) -> None:
        del self._taken[seat]
        if taken.retired:
            log.info("worker %d on node %s has finished", seat.number, seat.node)
            return
        died_young = now - taken.started < MAX_BACKOFF_S
        deaths = self._deaths[seat] = self._deaths.get(seat, 0) + 1 if died_young else 1
        pause = min(MAX_BACKOFF_S, self.interval_s * 2 ** (deaths - 1))
        self._not_before[seat] = now + pause
        log.warning("worker %d on node %s ended (%s); restarting in %.0f s", seat.number, seat.node, reason, pause)
