"""One thing after the other breaks while orders and a training run are in flight: nothing is lost, nobody has to help.

`make test-compose` prints the table that docs/operations.md has.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from nonesuch.local.service import free_port
from tests.helpers.drill import Orderer, Prober, Table, going_on
from tests.helpers.stack import PROFILES, Stack, out

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

WORKERS = 2
LEASE_S = 15.0
WHOLE_S = 180.0
"""How long anything may take to be as before."""
FILL = """
import time
from nonesuch.errors import Busy
from nonesuch.link import Call, Link
def all_of(*calls):
    for call in calls:
        yield call
with Link() as link:
    names = []
    for size in (2**24, 2**20, 2**16, 2**10):
        while len(names) < 4096:
            try:
                name = f"nonesuch:filler:{len(names)}"
                link.run(all_of(Call("SET", name, bytes(size), "PX", 60_000)))
                names.append(name)
            except Busy:
                break
    assert 0 < len(names) < 4096, len(names)
    time.sleep(10)
    link.run(all_of(*(Call("DEL", name) for name in names)))
"""
"""Runs in a worker's container: values of 16 MiB down to 1 KiB, until none fits."""


@dataclass
class Drill:
    """What is going on during every fault."""

    stack: Stack
    prober: Prober
    orderer: Orderer
    table: Table

    def epochs(self) -> list[int]:
        """Of the training run, so far."""
        done = self.stack.try_("exec", "-T", "trainer", "cat", "runs/drill/metrics.jsonl")
        return [json.loads(line)["epoch"] for line in done.stdout.splitlines() if line.endswith("}")]

    def endure(self, fault: str, strike: Callable[[], None]) -> None:
        """Strike, and wait until all workers are there, images are minted, and the training run goes on."""
        trained, start = len(self.epochs()), time.monotonic()
        strike()
        self.stack.until(lambda: self.orderer.finished_across(start), f"{fault}: the order that was open", WHOLE_S)
        self.stack.until(lambda: self.stack.workers() == WORKERS, f"{fault}: all workers", WHOLE_S)
        self.stack.until(lambda: len(self.epochs()) > trained + 1, f"{fault}: the training run goes on", WHOLE_S)
        self.stack.until(lambda: self.prober.is_well(start), f"{fault}: answers", WHOLE_S)
        assert self.orderer.wrong == []
        whole_s = time.monotonic() - start
        self.table.add(fault, self.prober.failures(start), self.prober.away_s(start), whole_s)


@pytest.fixture(scope="module")
def drill(built: Stack, say: Callable[[str], None]) -> Iterator[Drill]:
    stack = Stack(settings=(("NONESUCH_PORT", str(free_port())),), files=("tests/compose/drill.yml",))
    table = Table()
    try:
        stack.up(workers=WORKERS)
        with going_on(stack.url) as (prober, orderer):
            stack(*PROFILES, "up", "--detach", "--no-recreate", "--no-deps", "trainer")
            drill = Drill(stack, prober, orderer, table)
            stack.until(lambda: len(drill.epochs()) >= 2, "the training run has begun", WHOLE_S)
            yield drill
    finally:
        say(f"\n{table}")
        stack.down()


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("worker", "a worker's container is killed"),
        ("redis", "Redis is killed: it comes back empty"),
        ("head", "Ray's head is killed"),
        ("gateway", "the gateway is killed"),
        ("trainer", "the trainer is killed"),
    ],
)
def test_killed(drill: Drill, service: str, fault: str) -> None:
    drill.endure(fault, lambda: drill.stack.kill(service))


def test_a_worker_is_paused_for_longer_than_its_lease(drill: Drill) -> None:
    container = drill.stack.containers("worker")[0]

    def strike() -> None:
        out("docker", "pause", container)
        time.sleep(LEASE_S + 5)
        out("docker", "unpause", container)

    drill.endure(f"a worker is paused for {LEASE_S + 5:.0f} s", strike)


def test_redis_is_full(drill: Drill) -> None:
    """Nobody may change its limits, so it is filled, by a user who may write."""

    def strike() -> None:
        drill.stack("exec", "-T", "worker", "python", "-c", FILL, timeout=180)

    drill.endure("Redis is at its maxmemory for 10 s", strike)


def test_a_workers_network_is_cut(drill: Drill) -> None:
    container = drill.stack.containers("worker")[0]
    networks = json.loads(out("docker", "inspect", "--format", "{{json .NetworkSettings.Networks}}", container))

    def strike() -> None:
        for name in networks:
            out("docker", "network", "disconnect", name, container)
        time.sleep(20)
        for name, network in networks.items():
            aliases = [word for alias in network["Aliases"] or () for word in ("--alias", alias)]
            out("docker", "network", "connect", *aliases, name, container)

    drill.endure("a worker's network is cut for 20 s", strike)


def test_everything_is_told_to_stop(drill: Drill) -> None:
    """The last: within their grace periods, with exit code 0. The training run has lost no epoch."""
    epochs = drill.epochs()
    assert epochs == list(range(1, len(epochs) + 1))
    drill.stack(*PROFILES, "stop", timeout=180)
    states = [json.loads(line) for line in drill.stack(*PROFILES, "ps", "--all", "--format", "json").splitlines()]
    assert {state["Service"] for state in states} == {"init", "redis", "head", "worker", "gateway", "trainer"}
    assert {state["Service"]: state["ExitCode"] for state in states if state["ExitCode"]} == {}
