"""A real gateway behind a real socket, on a real Redis, with workers that cost nothing.

gateway        one for the session, with the default settings
make_gateway   another one, with settings of the test's own
workers        starts hand-written workers; they end with the test
gate           holds them up
http           a client of `gateway`
"""

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest
import uvicorn

from nonesuch.catalog import announce
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import Unreachable
from nonesuch.link import Call, Keys, Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.offers import Counted, GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.schema import Rows, make_batch, write_batch
from nonesuch.tickets import Ticket, claim, commit, fail_order, sweep, wait_for_bell
from nonesuch_gateway.server import listen, make_server, url_of
from nonesuch_gateway.settings import GatewaySettings

SMALL = GeneratorInfo(
    id="small", family="fake", sha256="a" * 64, image_shape=(4, 4, 1), class_names=("ant", "bee", "cat"), z_dim=2,
    max_sigma=2.0,
)  # fmt: skip
LARGE = SMALL.model_copy(update={"id": "large", "image_shape": (128, 128, 3)})
SIGMA = {"type": "number", "exclusiveMinimum": 0}
STRATEGIES = (
    StrategyInfo(
        name="random",
        schema={"type": "object", "properties": {"sigma": SIGMA}, "additionalProperties": False},
    ),
    StrategyInfo(name="mined", schema={"type": "object"}, needs_snapshot=True),
    StrategyInfo(name="choosy", schema={"type": "object"}, needs_teacher=True, mixes=True, rejects=True),
)


def mint_rows(ticket: Ticket, rows: int | None = None) -> bytes:
    """A ticket's batch: every pixel is (seed + index) modulo 256. `rows` makes it shorter than it should be."""
    info = {"small": SMALL, "large": LARGE}[ticket.order.generators[0]]
    indices = ticket.indices[:rows]
    n = len(indices)
    pixels = ((indices + ticket.order.seed) % 256).astype(np.uint8)
    images = np.broadcast_to(pixels[:, None, None, None], (n, *info.image_shape))
    rows = Rows(images, ticket.order.labels.of(indices), indices, np.zeros(n, np.int32), sigma=1.0)
    return write_batch(
        make_batch(rows, order=ticket.order.id, seed=ticket.order.seed, strategy="random", generators=[info])
    )


@dataclass
class FakeWorker:
    """Claims and commits in a thread until stopped. `hook` runs before each commit; it may sleep or refuse."""

    url: str
    name: str
    generators: tuple[GeneratorInfo, ...] = (SMALL,)
    hook: Callable[[Ticket], str | None] = lambda ticket: None
    """Returns None, or why the order must fail."""
    cut: Callable[[Ticket, int], int] = lambda ticket, rows: rows
    """How many of a ticket's rows it really delivers."""
    tallies: tuple[Counted, ...] = ()
    committed: list[int] = field(default_factory=list)
    """Numbers of the tickets that it committed."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name)

    def start(self) -> None:
        """Returns when it is in the catalogue. It stays there for the test, unless Redis is restarted."""
        with Link(RedisSettings(url=self.url)) as link:
            link.run(self._announce(link.keys))
        self._thread.start()

    def _announce(self, keys: Keys) -> Op[None]:
        return announce(
            keys,
            WorkerInfo(
                id=self.name, host="here", pid=1, device="cpu", started=0.0, generators=self.generators,
                strategies=STRATEGIES, tallies=self.tallies,
            ),
        )  # fmt: skip

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Link(RedisSettings(url=self.url)) as link:
            while not self._stop.is_set():
                try:
                    self._step(link)
                except Unreachable:
                    self._stop.wait(0.05)

    def _step(self, link: Link) -> None:
        link.run(self._announce(link.keys))
        ticket = link.run(claim(link.keys, [g.id for g in self.generators]))
        if ticket is None:
            link.run(sweep(link.keys))
            link.run(wait_for_bell(link.keys, timeout_s=0.05))
            return
        reason = self.hook(ticket)
        if reason is not None:
            link.run(fail_order(link.keys, ticket, reason))
            return
        rows = self.cut(ticket, len(ticket.indices))
        if link.run(commit(link.keys, ticket, mint_rows(ticket, rows), rows)) == "committed":
            self.committed.append(ticket.number)


@pytest.fixture(scope="session", autouse=True)
def _patient() -> None:
    """httpx gives up after 5 s by default; a machine that runs several tests at a time may take longer."""
    default: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default
    default.connect = default.read = default.write = default.pool = 30.0


StartWorkers = Callable[..., list[FakeWorker]]


@pytest.fixture
def workers(redis_url: str) -> Iterator[StartWorkers]:
    """`workers(3, hook=..., generators=...)` starts three."""
    started: list[FakeWorker] = []

    def start(count: int = 1, url: str = redis_url, **given: object) -> list[FakeWorker]:
        new = [FakeWorker(url, f"w{len(started) + i}", **given) for i in range(count)]  # type: ignore[arg-type]
        for worker in new:
            worker.start()
            started.append(worker)
        return new

    yield start
    for worker in started:
        worker.stop()


class Gate:
    """A hook of workers that wait until it is opened, 20 s at most."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, ticket: Ticket) -> None:
        self._open.wait(20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Workers that wait for it: `workers(hook=gate)`; `gate.open()` lets them go on."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def mint() -> Callable[[Ticket], bytes]:
    return mint_rows


@pytest.fixture
def small() -> GeneratorInfo:
    """4 × 4 × 1 images."""
    return SMALL


@pytest.fixture
def large() -> GeneratorInfo:
    """128 × 128 × 3 images: a ticket of 64 takes 3 MB."""
    return LARGE


@dataclass
class RunningGateway:
    """A gateway in a thread."""

    server: uvicorn.Server
    thread: threading.Thread
    url: str

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive(), "the gateway did not stop"


def run_gateway(redis_url: str, **given: object) -> RunningGateway:
    settings = GatewaySettings.model_validate({"port": 0, "redis": {"url": redis_url}, "shutdown_s": 1, **given})
    listener = listen(settings)
    server = make_server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway")
    thread.start()
    until(lambda: server.started)
    return RunningGateway(server, thread, url_of(listener, tls=settings.tls_key is not None))


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition; fails the test when it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


@pytest.fixture
def traces(link: Link) -> Callable[[], list[bytes]]:
    """`traces()`: the keys of orders and rings that are in Redis."""

    def keys() -> Op[list[bytes]]:
        found: list[bytes] = yield Call("KEYS", link.keys.pattern)
        return [key for key in found if b":worker" not in key and not key.endswith(b":bell")]

    return lambda: link.run(keys())


@pytest.fixture(scope="session")
def gateway(session_redis: PrivateRedis) -> Iterator[str]:
    """The URL of a gateway with the default settings."""
    running = run_gateway(session_redis.url)
    yield running.url
    running.stop()


@pytest.fixture
def make_gateway(redis_url: str) -> Iterator[Callable[..., RunningGateway]]:
    """`make_gateway(max_streams=1)`: a gateway with these settings; it stops with the test."""
    running: list[RunningGateway] = []

    def make(url: str = redis_url, **settings: object) -> RunningGateway:
        running.append(run_gateway(url, **settings))
        return running[-1]

    yield make
    for each in running:
        each.stop()


@pytest.fixture
def http(gateway: str, redis_url: str) -> Iterator[httpx.Client]:
    """A client of `gateway`, whose Redis is empty."""
    with httpx.Client(base_url=gateway, timeout=20) as client:
        yield client
