"""The nodes of a fleet that grows and shrinks with its load: what `elastic` decides, brought to an autoscaler."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from nonesuch.config import RedisSettings
from nonesuch.errors import NonesuchError
from nonesuch.link import Link
from nonesuch.stats import Load, read_load
from nonesuch_worker.fleet.elastic import Elastic
from nonesuch_worker.fleet.fleet import Node, seats

log = logging.getLogger(__name__)

Bundle = dict[str, int]
"""What one node must have: resource → how much."""
Answer = Literal["silent", "denied", "pending"]

ANY_NODE = ("CPU", 1)
"""The bundle that is asked for while there is no node to take as an example."""
REDIS_S = 1.0
"""Seconds that Redis has to answer. The fleet waits for it, and goes on without."""
SILENT_S = 120.0
"""Seconds after which an autoscaler that was not heard of is not there."""


class Autoscaler(Protocol):
    """Adds nodes to a cluster when it is asked to, and ends those on which nothing runs. It has bounds of its own."""

    def ask(self, bundles: Sequence[Bundle]) -> None:
        """Make all bundles fit into the cluster at once. Replaces what was asked before; none withdraws it."""
        ...

    def answer(self) -> Answer:
        """ "silent" if nobody has ever listened, "denied" if the bounds do not allow the last request, or "pending"."""
        ...


class RedisLoad:
    """Reads the load; None while Redis is away, which takes `REDIS_S` to find out."""

    def __init__(self, redis: RedisSettings) -> None:
        self._link = Link(redis.model_copy(update={"timeout_s": REDIS_S, "connect_timeout_s": REDIS_S}))
        self._known = True

    def __call__(self) -> Load | None:
        try:
            load = self._link.run(read_load(self._link.keys))
        except NonesuchError as error:
            if self._known:
                log.warning("the load is not known, so no node is asked for or given up: %s", error)
            self._known = False
            return None
        if not self._known:
            log.info("the load is known again")
        self._known = True
        return load


@dataclass
class ElasticNodes:
    """Chooses the nodes that serve, and has an autoscaler bring more."""

    autoscaler: Autoscaler
    load: Callable[[], Load | None]
    workers: int = 1
    """The workers on a node without a GPU, as the fleet has it."""
    policy: Elastic = field(default_factory=Elastic)
    _requested: list[Bundle] | None = None
    """What was last asked for; None: whatever somebody before us asked for."""
    _started: float | None = None
    _listened: bool = False

    def serving(self, nodes: Sequence[Node], working: Collection[str], now: float) -> list[Node]:
        """Those of the nodes that are to have workers. Asks the autoscaler for more as it sees fit."""
        room = {node.id: places for node in nodes if (places := len(seats([node], self.workers)))}
        denied = self._listen(now) == "denied"
        plan = self.policy.step(now, room, self.load(), working=working, denied=denied)
        self._request(_bundles([node for node in nodes if node.id in room], plan.asked))
        return [node for node in nodes if node.id not in plan.resting]

    def close(self) -> None:
        """Withdraw what was asked for."""
        self._request([])

    def _request(self, bundles: list[Bundle]) -> None:
        if bundles != self._requested:
            self.autoscaler.ask(bundles)
            self._requested = bundles

    def _listen(self, now: float) -> Answer:
        if self._listened and not self._requested:
            return "pending"
        answer = self.autoscaler.answer()
        self._started = now if self._started is None else self._started
        if not self._listened and (answer != "silent" or now - self._started >= SILENT_S):
            self._listened = True
            if answer == "silent":
                log.warning(
                    "the cluster has no autoscaler of Ray's version 2, so it will not grow: switch it on (KubeRay: "
                    "enableInTreeAutoscaling, and autoscalerOptions.version: v2), or leave --elastic out"
                )
        return answer


def _bundles(nodes: Sequence[Node], count: int) -> list[Bundle]:
    """Bundles for `count` nodes in all: those that are there, and more of the most frequent kind, with GPUs if any has
    some."""
    if not count:
        return []
    kinds = sorted(("GPU", node.gpus) if node.gpus else ("CPU", node.cpus) for node in nodes)
    more = max(kinds, key=lambda kind: (kind[0] == "GPU", kinds.count(kind)), default=ANY_NODE)
    return [{resource: amount} for resource, amount in (*kinds, *[more] * (count - len(kinds)))]
