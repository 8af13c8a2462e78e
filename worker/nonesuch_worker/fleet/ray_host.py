"""Ray as the fleet's host: decides where actors live, and nothing else. No data passes through it."""

import logging
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.sdk import request_resources
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nonesuch.host.cores import available_cores
from nonesuch.host.private_ray import private_ray
from nonesuch.host.process import ray_environment
from nonesuch_worker.fleet.actor import WorkerActor
from nonesuch_worker.fleet.fleet import Node, Seat
from nonesuch_worker.fleet.nodes import Answer, Bundle
from nonesuch_worker.settings import OBJECT_STORE_BYTES, WorkerSettings

log = logging.getLogger(__name__)

GCS_S = 10.0
"""Seconds that Ray's head may take to answer."""


class RayHost:
    """A Ray cluster: the one at `address`, or a private one on this machine that ends with this process."""

    def __init__(self, settings: WorkerSettings, address: str | None = None) -> None:
        self._settings = settings
        self._asked = 0
        options: dict[str, Any] = {"address": address or "local"}
        if not address:
            options |= {
                "num_cpus": available_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                **private_ray(),
            }
        ray.init(namespace="nonesuch", log_to_driver=True, logging_level=logging.WARNING, **options)
        # A node that gets SIGTERM waits until it has no actors. Which nodes do so, Ray says nowhere else.
        self._gcs = GcsClient(address=ray.get_runtime_context().gcs_address)

    def nodes(self) -> list[Node]:
        list_nodes: Any = ray.nodes
        leaving = self._gcs.get_draining_nodes(timeout=GCS_S)
        return [
            Node(n["NodeID"], int(n["Resources"].get("CPU", 0)), int(n["Resources"].get("GPU", 0)))
            for n in list_nodes()
            if n["Alive"] and n["NodeID"] not in leaving
        ]

    def start(self, seat: Seat) -> Hashable:
        remote: Any = ray.remote(WorkerActor)
        actor = remote.options(
            num_cpus=0,  # the seats already divide the cores
            num_gpus=1 if seat.gpu else 0,
            max_concurrency=2,
            max_restarts=0,  # the fleet restarts, with a pause that grows
            scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node, soft=False),
            runtime_env={"env_vars": ray_environment(seat.threads)},
        ).remote(self._settings.model_dump_json())
        return _Worker(actor, actor.run.remote())

    def failure(self, worker: Hashable) -> str | None:
        assert isinstance(worker, _Worker)
        done, _ = ray.wait([worker.running], timeout=0)
        if not done:
            return None
        try:
            ray.get(worker.running, timeout=0)
        except RayError as error:
            return str(error).strip().splitlines()[-1]
        return "it returned"

    def retire(self, worker: Hashable) -> None:
        assert isinstance(worker, _Worker)
        worker.actor.stop.remote()

    def stop(self, workers: Iterable[Hashable], grace_s: float) -> None:
        ours = [w for w in workers if isinstance(w, _Worker)]
        for worker in ours:
            self.retire(worker)
        if ours and grace_s:
            ray.wait([w.running for w in ours], num_returns=len(ours), timeout=grace_s)
        for worker in ours:
            ray.kill(worker.actor, no_restart=True)

    def ask(self, bundles: Sequence[Bundle]) -> None:
        self._asked = len(bundles)
        request: Any = request_resources
        request(bundles=list(bundles))

    def answer(self) -> Answer:
        reply = GetClusterStatusReply()
        reply.ParseFromString(self._gcs.get_cluster_status(timeout_s=GCS_S))
        state = reply.autoscaling_state
        if not state.autoscaler_state_version:
            return "silent"
        # What is denied is an old request for a moment, so its size tells whether it is the last one.
        denied = {sum(r.count for r in c.resource_requests) for c in state.infeasible_cluster_resource_constraints}
        return "denied" if self._asked in denied else "pending"

    def close(self) -> None:
        """Leave the cluster; a private one ends."""
        ray.shutdown()


class _Worker:
    """An actor and the promise of its end."""

    def __init__(self, actor: Any, running: Any) -> None:
        self.actor = actor
        self.running = running
