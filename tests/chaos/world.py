"""A whole service for faults to happen to: one Redis, workers, a gateway, with a wire before each server.

clients ─ wire ─► gateway ─ wire ─► Redis ◄─ wire ─ workers
                                      ▲
                                      └ wire ─ trainer
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import NonesuchError
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import find_redis_server
from nonesuch.local.service import free_port
from tests.chaos.parts import Part, Supervisor, left_behind, python
from tests.chaos.wires import Wire

GENERATORS = ("fashion-mnist", "analytic:id=ten,classes=10,size=16", "analytic:id=four,classes=4,size=8,seed=3")
MEMORY_MB = 512
ORDER_TTL_S, REPLY_TTL_S = 60, 15
"""What is abandoned lives so long at most."""


@dataclass
class World:
    """What faults and loads are given."""

    folder: Path
    appendonly: bool
    redis: Part
    workers: list[Part]
    gateway: Part
    supervisor: Supervisor
    wires: dict[str, Wire]
    """By who uses them: clients, gateway, workers, trainer."""
    port: int
    troubled: bool = False
    """Whether a fault is going on, or everybody is not well again after one."""

    @property
    def url(self) -> str:
        """The gateway's, by the clients' wire."""
        return f"http://127.0.0.1:{self.wires['clients'].port}"

    def redis_url(self, user: str) -> str:
        return f"redis://127.0.0.1:{self.wires[user].port}/0"

    def link(self) -> Link:
        """Redis as it is, by no wire."""
        return Link(RedisSettings(url=f"redis://127.0.0.1:{self.port}/0"))

    def tell(self, *words: object) -> object:
        """Give Redis one command, as its owner."""

        def op() -> Op[object]:
            return (yield Call(*words))  # type: ignore[arg-type]

        with self.link() as link:
            return link.run(op())

    def set_clock(self, seconds: float) -> None:
        """Put the gateway's clock so many seconds before the others'."""
        _write(self.folder / "clock", seconds)

    def set_slow(self, seconds: float) -> None:
        """Let each ticket take so many seconds longer."""
        _write(self.folder / "slow", seconds)

    def seen_workers(self) -> set[int]:
        """The processes that are in the catalogue."""
        with self.link() as link:
            return {worker.pid for worker in link.run(read_catalog(link.keys)).workers}

    def is_whole(self) -> bool:
        """Whether every worker that runs is in the catalogue."""
        alive = {worker.pid for worker in self.workers if worker.runs}
        return len(alive) == len(self.workers) and self.seen_workers() >= alive

    def found_keys(self) -> set[str]:
        with self.link() as link:

            def op() -> Op[list[bytes]]:
                return (yield Call("KEYS", link.keys.pattern))

            return {key.decode() for key in link.run(op())}


def eventually(what: Callable[[], bool], seconds: float) -> bool:
    """Whether something comes true in time; an error of ours is a no."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if what():
                return True
        except (NonesuchError, OSError):
            pass
        time.sleep(0.1)
    return False


@contextmanager
def world(folder: Path, *, appendonly: bool, workers: int = 2) -> Iterator[World]:
    """Everything runs; afterwards it is stopped. Raises `AssertionError` if that leaves a process behind."""
    port, front = free_port(), free_port()
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        targets = {"clients": front, "gateway": port, "workers": port, "trainer": port}
        wires = {user: stack.enter_context(Wire(target)) for user, target in targets.items()}

        def part(name: str, command: list[object], user: str) -> Part:
            env = {
                "NONESUCH_REDIS_URL": f"redis://127.0.0.1:{wires[user].port}/0",
                "NONESUCH_CHAOS_SLOW": str(folder / "slow"),
                "NONESUCH_CHAOS_CLOCK": str(folder / "clock"),
                "NONESUCH_GATEWAY_ORDER_TTL_S": str(ORDER_TTL_S),
                "NONESUCH_GATEWAY_REPLY_TTL_S": str(REPLY_TTL_S),
            }
            return Part(name, command, folder / f"{name}.log", env)

        redis = part("redis", [
            find_redis_server(), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder,
            "--appendonly", "yes" if appendonly else "no", "--maxmemory", f"{MEMORY_MB}mb",
            "--maxmemory-policy", "noeviction", "--enable-debug-command", "yes",
        ], "gateway")  # fmt: skip
        minting = [part(f"worker-{i}", python("tests.chaos.worker", *GENERATORS), "workers") for i in range(workers)]
        gateway = part("gateway", python("tests.chaos.gateway", "--port", front), "gateway")
        made = World(folder, appendonly, redis, minting, gateway, Supervisor([redis, *minting, gateway]), wires, port)
        made.set_clock(0)
        made.set_slow(0)
        stack.enter_context(made.supervisor)
        for each in (redis, *minting, gateway):
            stack.callback(each.stop)
        stack.callback(made.supervisor.rest)
        assert eventually(made.is_whole, 120), minting[0].last_words()
        yield made
    assert eventually(lambda: not left_behind(), 10), f"processes left behind: {left_behind()}"


def _write(path: Path, value: float) -> None:
    """Whole or not at all: others read it at any moment."""
    new = path.with_suffix(".new")
    new.write_text(str(value))
    os.replace(new, path)
