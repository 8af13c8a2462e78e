"""What the gateway adds: images over HTTP, against endpoints that people write, and against bytes that were at hand.

    python benchmarks/gateway.py [--images 2048] [--rounds 7]

The workers behind it are one stub that commits pictures which it made before (benchmarks/support/stub_worker.py), so
that the gateway is what is measured. The gateway runs on one core, alone; Redis, the stub and the client have the
others. The peers (benchmarks/support/gateway_peers.py) run on that same core, in turns with it; medians.

    images   128 px in Arrow, against a FastAPI endpoint that returns the same images as base64 PNG or as lists of
             numbers in JSON; the peer has its images at hand, and the faster of both counts
    bytes    the same answer, against two bare uvicorn applications that send as many bytes: from memory, and from
             Redis, which they read with the same library; bytes per second of the server's processor time, since on
             few cores Redis, the stub and the client, who share the others, are slower than the gateway
    latency  requests for 8 thumbnails by 64 clients at a time: the 99th percentile over the median
    memory   what the gateway's resident memory grows by over an answer of 10,000 images and 500 aborted ones, and
             which keys they leave in Redis
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from support.raw_http import Answer, connect, fetch, latencies, request

from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis

SUPPORT = Path(__file__).parent / "support"
CORES = sorted(os.sched_getaffinity(0))
CLIENTS, REQUESTS = 64, 40
ABORTED = 500


def body(count: int, generator: str) -> bytes:
    return json.dumps({"count": count, "generator": generator, "seed": 1}).encode()


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A child of this interpreter on the cores that this process has; killed in the end."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


@contextlib.contextmanager
def server(*command: str) -> Iterator[Server]:
    """A server that has one core to itself. Its first line says its URL."""
    others = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[:1])
    with process(*command) as child:
        os.sched_setaffinity(0, others)
        assert child.stdout
        line = child.stdout.readline()
        url = next((word for word in line.split() if word.startswith("http://")), None)
        if url is None:
            raise RuntimeError(f"{' '.join(command)} did not start: {line}")
        yield Server(url, child.pid)


def busy_seconds(pid: int) -> float:
    """Processor time of a process's threads so far."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Highest:
    """The most memory that a process has while the block runs, looked at every 10 ms."""

    def __init__(self, pid: int) -> None:
        self.bytes = resident(pid)
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, resident(self._pid))

    def __enter__(self) -> "Highest":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()


def mint(url: str, count: int) -> Answer:
    return fetch("POST", f"{url}/v1/batches?format=arrow", body(count, "pictures"))


def abort(url: str) -> None:
    """Ask for a large answer, take its first bytes, and go."""
    with connect(url) as connection:
        connection.sendall(request("POST", f"{url}/v1/batches?format=arrow", body(512, "pictures")))
        connection.recv(65_536)


def left_behind(link: Link) -> list[str]:
    """Keys of orders and rings."""

    def keys() -> Op[list[bytes]]:
        found: list[bytes] = yield Call("KEYS", link.keys.pattern)
        return found

    lasting = (link.keys.bell, ":worker")
    return [key.decode() for key in link.run(keys()) if not any(word in key.decode() for word in lasting)]


@dataclass(frozen=True)
class Rates:
    """Medians of one side's rounds."""

    images: float
    """Per second."""
    bytes: float
    """Per second."""
    bytes_per_busy_second: float
    """Of the server's processor."""


def rates(gateway: Server, peers: Server, images: int, rounds: int) -> dict[str, Rates]:
    """What each side does."""
    few = max(16, images // 16)  # what the JSON peers take about as long for
    size = mint(gateway.url, images).bytes
    sides = {
        "gateway": (gateway, images, lambda: mint(gateway.url, images)),
        "png": (peers, few, lambda: fetch("GET", f"{peers.url}/png?count={few}")),
        "lists": (peers, few, lambda: fetch("GET", f"{peers.url}/lists?count={few}")),
        "memory": (peers, images, lambda: fetch("GET", f"{peers.url}/bytes?{size}")),
        "relay": (peers, images, lambda: fetch("GET", f"{peers.url}/relay?{size}")),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, (asked, count, ask) in sides.items():
            before = busy_seconds(asked.pid)
            answer = ask()
            busy = busy_seconds(asked.pid) - before
            if number:  # the first round warms up
                found[name].append((count / answer.seconds, answer.bytes / answer.seconds, answer.bytes / busy))
    return {name: Rates(*map(statistics.median, zip(*rounds, strict=True))) for name, rounds in found.items()}


def memory(link: Link, gateway: Server) -> tuple[int, list[str]]:
    """Bytes that the gateway grew by, and what is left in Redis."""
    before = resident(gateway.pid)
    with Highest(gateway.pid) as highest:
        mint(gateway.url, 10_000)
        for _ in range(ABORTED):
            abort(gateway.url)
    end = time.monotonic() + 30
    while (keys := left_behind(link)) and time.monotonic() < end:
        time.sleep(0.1)
    return highest.bytes - before, keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2048, help="in an answer whose rate is measured")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if len(CORES) < 2:
        sys.exit("this takes two cores: one for the gateway, the others for all else")
    os.sched_setaffinity(0, CORES[1:])
    with (
        PrivateRedis(max_memory_mb=2048) as private,
        Link(RedisSettings(url=private.url)) as link,
        process(str(SUPPORT / "stub_worker.py"), private.url),
        server("-m", "nonesuch", "gateway", "--port", "0", "--redis", private.url) as gateway,
        server(str(SUPPORT / "gateway_peers.py"), private.url) as peers,
    ):
        found = rates(gateway, peers, options.images, options.rounds)
        ask = partial(latencies, f"{gateway.url}/v1/batches", body(8, "thumbnails"), clients=CLIENTS)
        asyncio.run(ask(each=4))
        times = asyncio.run(ask(each=REQUESTS))
        growth, keys = memory(link, gateway)
    report(found, times, growth, keys)


def report(found: dict[str, Rates], times: list[float], growth: int, keys: list[str]) -> None:
    ours, bare, relay = found["gateway"], found["memory"], found["relay"]
    peer = max(("png", "lists"), key=lambda name: found[name].images)
    median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
    table = Table("128 px", "images/s", "MB/s", "MB per busy second")
    for name, values in found.items():
        per_busy = f"{values.bytes_per_busy_second / 1e6:.0f}"
        table.add_row(name, f"{values.images:.0f}", f"{values.bytes / 1e6:.0f}", per_busy)
    Console().print(table)
    print(f"{ABORTED} aborted requests left {keys or 'no keys'}")
    ratios = {
        "ratio_vs_json": ours.images / found[peer].images,
        "ratio_vs_bare": ours.bytes_per_busy_second / bare.bytes_per_busy_second,
        "ratio_vs_relay": ours.bytes_per_busy_second / relay.bytes_per_busy_second,
        "wall_ratio_vs_bare": ours.bytes / bare.bytes,
        "wall_ratio_vs_relay": ours.bytes / relay.bytes,
        "p99_over_median": p99 / median,
        "memory_growth_mb": growth / 1e6,
    }
    busy = f"{ours.bytes_per_busy_second / 1e6:.0f} MB per second of its processor"
    rows = [
        ["images of 128 px", f"FastAPI, JSON ({peer}): {found[peer].images:.0f} images/s",
         f"Arrow: {ours.images:.0f} images/s", f"{ratios['ratio_vs_json']:.1f}"],
        ["the same bytes", f"a bare uvicorn application, from memory: {bare.bytes_per_busy_second / 1e6:.0f} MB",
         busy, f"{ratios['ratio_vs_bare']:.2f}"],
        ["the same bytes", f"one that reads them from Redis: {relay.bytes_per_busy_second / 1e6:.0f} MB",
         busy, f"{ratios['ratio_vs_relay']:.2f}"],
        [f"{CLIENTS} clients at a time, 8 images of 28 px", f"median {median * 1e3:.0f} ms",
         f"99th percentile {p99 * 1e3:.0f} ms", f"{ratios['p99_over_median']:.2f}"],
        [f"memory over 10,000 images and {ABORTED} aborted requests", "", f"{growth / 1e6:.0f} MB more",
         f"{len(keys)} keys left"],
    ]  # fmt: skip
    result: dict[str, Any] = {"name": "gateway", **{name: round(value, 3) for name, value in ratios.items()}}
    print(json.dumps(result | {"keys_left": keys, "rows": rows}))


if __name__ == "__main__":
    main()
