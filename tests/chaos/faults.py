"""What is done to a service. Every fault is over within `LONGEST_S`, and afterwards all is as before."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import NamedTuple

from redis.exceptions import ResponseError

from nonesuch.errors import NonesuchError
from tests.chaos.loads import Training
from tests.chaos.parts import ROOT, Part
from tests.chaos.world import World, eventually

LONGEST_S = 40.0
"""Seconds of one outage; what may be waited for is a minute of it."""


class Fault(NamedTuple):
    """A kind of fault."""

    name: str
    inflict: Callable[[World, Training, random.Random], str]
    """Does it, to its end, and says to what and for how long."""


def _seconds(rng: random.Random, longest: float = LONGEST_S) -> float:
    """Mostly short, sometimes long."""
    return round(min(longest, rng.lognormvariate(0.8, 1.1)), 2)


def _chosen(world: World, training: Training, kind: str, rng: random.Random) -> Part | None:
    match kind:
        case "redis":
            return world.redis
        case "worker":
            return rng.choice(world.workers)
        case "gateway":
            return world.gateway
        case _:
            return training.part


def _killing(kind: str) -> Callable[[World, Training, random.Random], str]:
    def kill(world: World, training: Training, rng: random.Random) -> str:
        part, seconds = _chosen(world, training, kind, rng), _seconds(rng)
        if part is None or not part.runs:
            return "nobody there"
        with part.down():
            time.sleep(seconds)
        return f"{part.name}, away for {seconds} s"

    return kill


def _pausing(kind: str) -> Callable[[World, Training, random.Random], str]:
    def pause(world: World, training: Training, rng: random.Random) -> str:
        part, seconds = _chosen(world, training, kind, rng), _seconds(rng)
        if part is None:
            return "nobody there"
        with part.paused():
            time.sleep(seconds)
        return f"{part.name}, for {seconds} s"

    return pause


def _lasting(trouble: Callable[[World], AbstractContextManager[None]]) -> Callable[..., str]:
    """What is so for some time and then is over."""

    def inflict(world: World, training: Training, rng: random.Random) -> str:
        seconds = _seconds(rng)
        with trouble(world):
            time.sleep(seconds)
        return f"for {seconds} s"

    return inflict


@contextmanager
def _set(world: World, settings: dict[str, tuple[str, str]]) -> Iterator[None]:
    """Settings of Redis: to what they are put, and back to what."""
    try:
        for name, (bad, _) in settings.items():
            world.tell("CONFIG", "SET", name, bad)
        yield
    finally:
        for name, (_, good) in settings.items():
            world.tell("CONFIG", "SET", name, good)


@contextmanager
def _read_only(world: World) -> Iterator[None]:
    world.tell("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        world.tell("REPLICAOF", "NO", "ONE")


def _zombie(world: World, training: Training, rng: random.Random) -> str:
    """Redis refuses writes for a part of one mint, which outlasts a heartbeat: a worker must not go on unseen."""
    mint = rng.uniform(6, 12)
    world.set_slow(mint)
    try:
        time.sleep(2.5)
        with _read_only(world):
            time.sleep(rng.uniform(2, 4))
        time.sleep(mint)
    finally:
        world.set_slow(0)
    return f"tickets of {mint:.1f} s"


def _busy(world: World, training: Training, rng: random.Random) -> str:
    """A script of somebody else holds Redis, which says BUSY."""
    seconds = _seconds(rng, 10)
    world.tell("CONFIG", "SET", "busy-reply-threshold", "100")
    script = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < tonumber(ARGV[1]) do end"
    with suppress(NonesuchError, ResponseError):
        world.tell("EVAL", script, "0", str(round(seconds)))
    assert eventually(lambda: world.tell("PING") is not None, 60), "Redis does not come back"
    return f"for {seconds} s"


def _misconf(world: World, training: Training, rng: random.Random) -> str:
    """A snapshot of Redis that cannot be written, after which it takes no writes."""
    seconds = _seconds(rng)
    world.tell("CONFIG", "SET", "save", "1 1")
    world.tell("CONFIG", "SET", "dbfilename", "no-such.rdb")
    blocked = world.folder / "no-such.rdb"
    blocked.mkdir(exist_ok=True)
    (blocked / "full").touch()
    try:
        with suppress(NonesuchError, ResponseError):
            world.tell("BGSAVE")
        time.sleep(seconds)
    finally:
        world.tell("CONFIG", "SET", "save", "")
        world.tell("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        (blocked / "full").unlink()
        blocked.rmdir()
        with suppress(NonesuchError, ResponseError):
            world.tell("BGSAVE")
        time.sleep(0.5)
        world.tell("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    return f"for {seconds} s"


def _loading(world: World, training: Training, rng: random.Random) -> str:
    """Redis starts again and says LOADING for a while; one that keeps nothing has nothing to load."""
    delay = rng.randrange(200, 2000)
    options = ["--key-load-delay", str(delay), "--loading-process-events-interval-bytes", "1024"]
    with world.redis.down():
        world.redis.options = options
    try:
        assert eventually(lambda: world.tell("PING") is not None, 60)
    finally:
        world.redis.options = []
    world.tell("CONFIG", "SET", "key-load-delay", "0")
    return f"{delay} µs for each key"


def _cutting(user: str) -> Callable[[World, Training, random.Random], str]:
    def cut(world: World, training: Training, rng: random.Random) -> str:
        times = rng.randrange(1, 8)
        for _ in range(times):
            world.wires[user].cut()
            time.sleep(rng.uniform(0.02, 0.5))
        return f"{times} times"

    return cut


def _closed(user: str, world: World) -> AbstractContextManager[None]:
    return world.wires[user].refusing()


def _halted(user: str, world: World) -> AbstractContextManager[None]:
    return world.wires[user].halted()


def _clock(world: World, training: Training, rng: random.Random) -> str:
    ahead = rng.choice([-4000, -200, -30, 30, 200, 4000])
    world.set_clock(ahead)
    try:
        time.sleep(_seconds(rng))
    finally:
        world.set_clock(0)
    return f"{ahead} s"


_EXPORT = """
import resource, sys
from pathlib import Path
import nonesuch
path = Path(sys.argv[2])
with nonesuch.Client(sys.argv[1]) as client:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        client.export(path, 2000, seed=3, generator="ten")
    except nonesuch.errors.NotWritable as error:
        assert str(path.parent) in str(error) or str(path) in str(error), error
    else:
        raise AssertionError("written on a full disk")
    left = [p.name for p in path.parent.iterdir()]
    assert left == [], left
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    client.export(path, 2000, seed=3, generator="ten")
"""


def _disk(world: World, training: Training, rng: random.Random) -> str:
    """The file of an export does not fit; what came of it is away, and it can be written when there is room."""
    folder = world.folder / f"full-{rng.randrange(10**9)}"
    folder.mkdir()
    command = [sys.executable, "-c", _EXPORT, world.url, str(folder / "x.arrows")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"the export on a full disk: {done.stderr[-600:]}"
    return "4 KiB"


KINDS = ("redis", "worker", "gateway", "trainer")
USERS = ("clients", "gateway", "workers", "trainer")
FAULTS = (
    *(Fault(f"kill {kind}", _killing(kind)) for kind in KINDS),
    *(Fault(f"stop {kind}", _pausing(kind)) for kind in KINDS),
    Fault("refuse READONLY", _lasting(_read_only)),
    Fault("refuse NOREPLICAS", _lasting(partial(_set, settings={"min-replicas-to-write": ("1", "0")}))),
    Fault("refuse MISCONF", _misconf),
    Fault("refuse BUSY", _busy),
    Fault("refuse LOADING", _loading),
    Fault("refuse in mid-mint", _zombie),
    Fault("fill Redis", _lasting(partial(_set, settings={"maxmemory": ("1mb", "512mb")}))),
    Fault("fill disk", _disk),
    *(Fault(f"cut {user}", _cutting(user)) for user in USERS),
    *(Fault(f"close {user}", _lasting(partial(_closed, user))) for user in USERS),
    *(Fault(f"halt {user}", _lasting(partial(_halted, user))) for user in USERS),
    Fault("clock of the gateway", _clock),
)
"""What may happen; each as often as the others."""
