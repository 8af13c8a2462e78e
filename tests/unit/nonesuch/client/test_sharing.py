"""What was connected before a fork, or in another event loop: everybody gets the answers to what they asked."""

import asyncio
import gc
import json
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.queues import SimpleQueue
from threading import Thread

import numpy as np
import pyarrow as pa
import pytest

import nonesuch
from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidValue
from nonesuch.link import AsyncLink, Call, Link
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import Rows, make_batch

FORK = multiprocessing.get_context("fork")
PROCESSES, CALLS = 4, 12
INFO = GeneratorInfo(
    id="small", family="fake", sha256="a" * 64, image_shape=(4, 4, 1), class_names=("ant", "bee"), z_dim=2
)


def stream_of(seed: int, count: int) -> bytes:
    """Two batches of a request."""
    sink = pa.BufferOutputStream()
    for start in (0, count):
        indices = np.arange(start, start + count)
        images = np.full((count, 4, 4, 1), seed % 256, np.uint8)
        rows = Rows(images, (indices % 2).astype(np.int32), indices, np.zeros(count, np.int32), sigma=1.0)
        batch = make_batch(rows, order="f" * 32, seed=seed, strategy="random", generators=[INFO])
        if not start:
            writer = pa.ipc.new_stream(sink, batch.schema)
        writer.write_batch(batch)
    writer.close()
    return sink.getvalue().to_pybytes()


class Gateway(BaseHTTPRequestHandler):
    """Answers with images of the seed that was asked for, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = stream_of(asked["seed"], asked["count"])
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apache.arrow.stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Nonesuch-Order", "f" * 32)
        self.send_header("Content-Location", "/v1/batches/r1.abc?format=arrow")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def abandoned_sockets() -> Iterator[None]:
    """Python says so when it collects the sockets of an event loop that is closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def forked(call: Callable[[int], object]) -> list[object]:
    """What `call` of 0, 1, … comes to in as many processes; in the place of an error its words."""

    def run(number: int, to: "SimpleQueue[object]") -> None:
        try:
            to.put((number, call(number)))
        except Exception as error:
            to.put((number, f"{type(error).__name__}: {error}"))

    queues = [FORK.SimpleQueue() for _ in range(PROCESSES)]
    processes = [FORK.Process(target=run, args=(n, queue)) for n, queue in enumerate(queues)]
    for process in processes:
        process.start()
    found = dict(queue.get() for queue in queues)
    for process in processes:
        process.join()
    return [found[number] for number in range(PROCESSES)]


def test_a_client_that_was_used_before_a_fork_gets_its_own_images(url: str) -> None:
    with nonesuch.Client(url, retries=0) as client:
        client.mint(4, seed=1)
        seeds = [[1000 * (n + 1) + step for step in range(CALLS)] for n in range(PROCESSES)]
        assert forked(lambda n: [client.mint(4, seed=seed).seed for seed in seeds[n]]) == seeds
        assert client.mint(4, seed=2).seed == 2


def test_a_stream_is_for_the_process_that_began_it(url: str) -> None:
    with nonesuch.Client(url, retries=0) as client, client.stream(64, seed=5) as stream:
        first = next(stream)
        for found in forked(lambda n: len(next(stream))):
            assert "InvalidValue: this stream was begun before the process forked" in str(found)
        assert [len(first), *(len(batch) for batch in stream)] == [64, 64]


def test_a_client_of_one_event_loop_serves_the_next(url: str) -> None:
    client = nonesuch.AsyncClient(url, retries=0)

    async def mint(seed: int) -> int:
        return int((await client.mint(4, seed=seed)).seed)

    async def last(seed: int) -> int:
        async with client:
            return await mint(seed)

    with abandoned_sockets():
        assert [asyncio.run(mint(seed)) for seed in (1, 2, 3)] == [1, 2, 3]
        assert forked(lambda n: asyncio.run(mint(10 + n))) == [10, 11, 12, 13]
        assert asyncio.run(last(4)) == 4


def test_a_stream_is_for_the_event_loop_that_began_it(url: str) -> None:
    client = nonesuch.AsyncClient(url, retries=0)
    stream = client.stream(64, seed=5)

    async def first() -> int:
        return len(await anext(stream))

    with abandoned_sockets():
        loop = asyncio.new_event_loop()  # `asyncio.run` would close the stream
        assert loop.run_until_complete(first()) == 64
        with pytest.raises(InvalidValue, match="was begun in another event loop"):
            asyncio.run(first())
        loop.close()


def echo(word: str):
    return (yield Call("ECHO", word))


def test_a_link_that_was_used_before_a_fork_gets_its_own_replies(redis_url: str) -> None:
    with closing(Link(RedisSettings(url=redis_url))) as link:
        link.run(echo("before"))
        words = [[f"{n} {step}" for step in range(100)] for n in range(PROCESSES)]
        assert forked(lambda n: [link.run(echo(word)).decode() for word in words[n]]) == words
        assert link.run(echo("after")) == b"after"


def test_a_link_of_one_event_loop_serves_the_next(redis_url: str) -> None:
    link = AsyncLink(RedisSettings(url=redis_url))

    async def ask(word: str) -> str:
        return str((await link.run(echo(word))).decode())

    async def last(word: str) -> str:
        try:
            return await ask(word)
        finally:
            await link.close()

    with abandoned_sockets():
        assert [asyncio.run(ask(word)) for word in "abc"] == ["a", "b", "c"]
        assert forked(lambda n: asyncio.run(ask(str(n)))) == ["0", "1", "2", "3"]
        assert asyncio.run(last("d")) == "d"
