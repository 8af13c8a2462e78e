"""When a fleet asks for nodes and when it gives some up. Plain arithmetic on what is seen: no Ray, no Redis.

    up     for `busy_s` every worker has had a ticket in hand, and one more worker could have claimed another: ask for
           as many nodes again, or as many as those tickets are worth. Ask for no more until they are there and work.
    down   for `idle_s` the load would have fitted into fewer nodes: the youngest rest. A node that rests has no worker,
           so the autoscaler ends it after its own idle time. It is taken back when every worker is busy again, or when
           it is still there after `rest_s`: it is one that the autoscaler keeps then, and is left alone for an hour.

What holds a node is a worker on it. A request only brings nodes, and is withdrawn when they work, or when the load is
gone. One beyond the autoscaler's bounds brings nothing at all, so a request that is denied is halved. One node
always serves, or `least` of them, as nobody can place an order where there is no worker.
"""

import logging
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import ceil

from nonesuch.errors import InvalidValue
from nonesuch.stats import Load

log = logging.getLogger(__name__)

GAP = 0.2
"""How long a busy fleet may look idle for once, as between two tickets: a fraction of `busy_s`."""
CALM_S = 60.0
"""Seconds without a busy moment after which a request is withdrawn."""
SETTLE_S = 300.0
"""Seconds after which workers of new nodes that are not there do not hold up the next request."""
DENIED_S = 300.0
"""Seconds before nodes beyond the autoscaler's bounds are asked for again; the bounds may have changed by then."""
KEPT_S = 3600.0
"""Seconds before nodes that the autoscaler keeps are given up again."""


@dataclass(frozen=True)
class Times:
    """How patient a fleet is, in seconds. Raises `InvalidValue` unless all are above 0."""

    busy_s: float = 15.0
    """Seconds of more work than workers after which nodes are asked for."""
    idle_s: float = 300.0
    """Seconds in which fewer nodes would have done, after which some are given up."""
    rest_s: float = 180.0
    """Seconds without a worker after which a node that is still there is taken back; more than the autoscaler's idle
    time."""

    def __post_init__(self) -> None:
        for name in ("busy_s", "idle_s", "rest_s"):
            if not getattr(self, name) > 0:
                raise InvalidValue(f"{name} is {getattr(self, name)}: give seconds above 0", field=name)


@dataclass(frozen=True)
class NodePlan:
    """The nodes that are to rest, and how many are asked for."""

    resting: frozenset[str] = frozenset()
    """The nodes that are to have no worker."""
    asked: int = 0
    """The nodes that the cluster should have in all; 0: nothing is asked for."""


@dataclass
class Elastic:
    """Decides, step by step. It starts from what is there: forgetting everything costs no more than `idle_s`."""

    times: Times = field(default_factory=Times)
    least: int = 1
    """Nodes that always serve, if they are there. An autoscaler would not end any below its lower bound anyway."""
    _first_seen: dict[str, float] = field(default_factory=dict)
    _resting: dict[str, float] = field(default_factory=dict)
    """Node → since when it has had no worker."""
    _asked: int = 0
    _not_before: float = float("-inf")
    _kept: int = 0
    """How many nodes the autoscaler keeps, as far as is known."""
    _kept_until: float = float("-inf")
    """The time until which `_kept` is believed."""
    _busy_since: float | None = None
    _last_busy: float = float("-inf")
    _demand: deque[tuple[float, int]] = field(default_factory=deque)
    """The past load: (time, the workers that it could have used), back to `idle_s` ago."""

    def step(
        self,
        now: float,
        nodes: Mapping[str, int],
        load: Load | None,
        *,
        working: Collection[str] = (),
        denied: bool = False,
    ) -> NodePlan:
        """Decide what to do at time `now`.

        Args:
            nodes: the nodes that are there → the workers that each has room for, 1 or more.
            load: None when it is not known; then nothing changes.
            working: the nodes that still have a worker, for those that rest.
            denied: the autoscaler says that it cannot have what was last asked for.
        """
        self._meet(now, nodes, working)
        if load is None:
            self._busy_since, self._last_busy = None, now
            self._demand.clear()
        else:
            busy = 0 < load.workers <= load.leased and load.claimable > 0
            self._remember(now, load, busy)
            self._take_back(now, nodes, load, busy)
            self._update_request(now, nodes, load, denied)
            if nodes:
                self._give_up(now, nodes)
        return NodePlan(frozenset(self._resting), self._asked)

    def _meet(self, now: float, nodes: Mapping[str, int], working: Collection[str]) -> None:
        self._first_seen = {node: self._first_seen.get(node, now) for node in nodes}
        for node in self._resting.keys() - nodes:
            log.info("node %s, which was given up, is gone", node)
            del self._resting[node]
        self._resting |= {node: now for node in self._resting if node in working}
        if nodes and not nodes.keys() - self._resting:  # those that served are lost
            self._serve_again(max(self._resting, key=self._resting.__getitem__))
        self._kept = 0 if now >= self._kept_until else min(self._kept, len(nodes))

    def _remember(self, now: float, load: Load, busy: bool) -> None:
        if busy:
            self._busy_since = now if self._busy_since is None else self._busy_since
            self._last_busy = now
        elif now - self._last_busy > self.times.busy_s * GAP:
            self._busy_since = None
        # While a worker is idle, what could be claimed is not for these workers, or is about to be claimed.
        self._demand.append((now, load.leased + (load.claimable if busy else 0)))
        while len(self._demand) > 1 and self._demand[1][0] <= now - self.times.idle_s:
            self._demand.popleft()

    def _take_back(self, now: float, nodes: Mapping[str, int], load: Load, busy: bool) -> None:
        overdue = {node for node, since in self._resting.items() if now - since >= self.times.rest_s}
        for node in overdue:
            del self._resting[node]
        if overdue:
            self._kept, self._kept_until = len(nodes) - len(self._resting), now + KEPT_S
            log.info("the autoscaler keeps %d nodes: %d of them serve again", self._kept, len(overdue))
        if busy:
            useful = load.claimable
            for node in sorted(self._resting, key=self._resting.__getitem__, reverse=True):  # those that have time left
                if useful > 0:
                    self._serve_again(node)
                    useful -= nodes[node]

    def _serve_again(self, node: str) -> None:
        del self._resting[node]
        log.info("node %s, which was given up, serves again", node)

    def _update_request(self, now: float, nodes: Mapping[str, int], load: Load, denied: bool) -> None:
        if self._asked:
            self._follow_up(now, nodes, load, denied)
        elif now < self._not_before or self._resting:
            return
        elif not nodes:
            self._ask(1, "there is none")
        elif self._busy_long(now) and self._settled(now, nodes, load):
            useful = ceil(load.claimable * len(nodes) / sum(nodes.values()))
            self._ask(len(nodes) + min(useful, len(nodes)), f"{load.claimable} more tickets could be in hand")

    def _ask(self, asked: int, why: str) -> None:
        log.info("asking for %d nodes: %s", asked, why)
        self._asked = asked

    def _follow_up(self, now: float, nodes: Mapping[str, int], load: Load, denied: bool) -> None:
        there = len(nodes)
        missing = self._asked - there
        if missing <= 0:
            if self._settled(now, nodes, load):  # not before: a node that is new and idle may be ended
                self._withdraw("they are there")
        elif denied and missing > 1:
            self._ask(there + missing // 2, f"{self._asked} are more than the autoscaler may have")
        elif denied:
            self._withdraw(f"the autoscaler may have no more than the {there} that are there, of this kind")
            self._not_before = now + DENIED_S
        elif there and now - max(self._last_busy, *self._first_seen.values()) >= CALM_S:
            self._withdraw("the load is gone")

    def _withdraw(self, why: str) -> None:
        log.info("no more than the present nodes are asked for: %s", why)
        self._asked = 0

    def _busy_long(self, now: float) -> bool:
        if self._busy_since is None or self._last_busy < now:
            return False
        return now - self._busy_since >= self.times.busy_s

    def _settled(self, now: float, nodes: Mapping[str, int], load: Load) -> bool:
        return load.workers >= sum(nodes.values()) or now - max(self._first_seen.values()) >= SETTLE_S

    def _give_up(self, now: float, nodes: Mapping[str, int]) -> None:
        known_since = max(self._demand[0][0], *self._first_seen.values())
        if self._asked or known_since > now - self.times.idle_s:
            return
        needed = max(workers for _, workers in self._demand)
        serving = [node for node in nodes if node not in self._resting]
        room = sum(nodes[node] for node in serving)
        left = len(serving)
        for node in sorted(serving, key=lambda node: (self._first_seen[node], node), reverse=True):
            if left > max(self.least, self._kept) and room - nodes[node] >= needed:
                self._resting[node] = now
                left, room = left - 1, room - nodes[node]
                log.info("giving up node %s: %d workers have been enough for %.0f s", node, needed, self.times.idle_s)
