"""Clients that go away, are slow or many; orders that end in mid-stream; gateways that stop."""

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pytest

from nonesuch.config import RedisSettings
from nonesuch.link import AsyncLink
from nonesuch.tickets import claim, commit
from nonesuch_gateway.recipes.plans import plan, reply_terms
from nonesuch_gateway.recipes.requests import MintRequest
from nonesuch_gateway.replies.opening import Replies
from nonesuch_gateway.settings import GatewaySettings
from tests.helpers.counters import open_orders, ring_stats

LARGE_TICKETS = 20
LARGE_COUNT = 64 * LARGE_TICKETS
"""63 MB: far more than the sockets between gateway and client hold."""


class SlowClient:
    """Sends a request over a socket with a small receive buffer and reads when it is told to."""

    def __init__(self, url: str, body: dict[str, object]) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.socket.connect((parts.hostname, parts.port))
        content = json.dumps(body).encode()
        head = f"POST /v1/batches HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
        self.socket.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)

    def read_head(self) -> bytes:
        self.socket.settimeout(10)
        return self.socket.recv(15)

    def read_rest(self) -> bytes:
        received = bytearray()
        while data := self.socket.recv(2**20):
            received += data
        return bytes(received)

    def __enter__(self) -> "SlowClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


def test_a_client_that_leaves_in_mid_stream_cancels_its_order(http, workers, link, until, traces):
    workers(hook=lambda ticket: time.sleep(0.05))
    with http.stream("POST", "/v1/batches", json={"count": 64 * 1000}) as response:
        chunks = response.iter_raw()  # httpx closes the connection of a forgotten iterator
        next(chunks)
        assert link.run(open_orders(link.keys)) == 1
    until(lambda: not traces(), 3)


def test_a_client_that_leaves_before_the_first_byte_cancels_its_order(gateway, workers, link, until, traces):
    (worker,) = workers()
    worker.stop()
    with SlowClient(gateway, {"count": 10}):
        until(lambda: link.run(open_orders(link.keys)) == 1)
    until(lambda: not traces(), 3)


def test_many_clients_that_leave_leave_nothing(gateway, workers, until, traces):
    workers(2, hook=lambda ticket: time.sleep(0.002))

    def leave(i: int) -> None:
        with SlowClient(gateway, {"count": 64 * 1000}) as client:
            if i % 2:
                client.read_head()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(60)))
    until(lambda: not traces(), 5)


def test_a_slow_client_bounds_its_workers_and_still_gets_everything(make_gateway, workers, large):
    (worker,) = workers(generators=(large,))
    slots = 3
    with SlowClient(make_gateway(reply_slots=slots).url, {"count": LARGE_COUNT}) as client:
        client.read_head()
        time.sleep(0.7)
        assert len(worker.committed) <= slots + LARGE_TICKETS // 3  # sockets hold some, by the kernel's settings
        rest = client.read_rest()
    assert len(worker.committed) == LARGE_TICKETS
    assert rest.endswith(b"\r\n0\r\n\r\n") and len(rest) > LARGE_COUNT * 128 * 128 * 3


def test_a_slow_client_does_not_hold_up_another(make_gateway, workers, large, small):
    workers(generators=(small, large))
    url = make_gateway().url
    with SlowClient(url, {"count": LARGE_COUNT, "generator": "large"}) as client:
        client.read_head()
        for _ in range(5):
            began = time.monotonic()
            response = httpx.post(f"{url}/v1/batches", json={"count": 128, "generator": "small"})
            assert pa.ipc.open_stream(response.content).read_all().num_rows == 128
            assert time.monotonic() - began < 3


def test_a_client_that_takes_nothing_is_cut_off(make_gateway, workers, large, until, traces):
    workers(generators=(large,))
    gateway = make_gateway(stall_s=0.3)
    with SlowClient(gateway.url, {"count": LARGE_COUNT}) as client:
        client.read_head()
        until(lambda: not traces(), 5)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            until(lambda: not gateway.server.server_state.connections, 10)


def test_the_keeper_keeps_the_reply_of_a_slow_client_alive(make_gateway, workers, large):
    workers(generators=(large,))  # idle workers sweep, so an abandoned ring would be deleted
    with SlowClient(make_gateway(reply_ttl_s=0.3).url, {"count": LARGE_COUNT}) as client:
        client.read_head()
        time.sleep(1.0)
        assert client.read_rest().endswith(b"\r\n0\r\n\r\n")


def test_what_is_ahead_of_its_turn_is_bounded_by_the_slots(redis_url, workers, link, mint, traces):
    (worker,) = workers()
    worker.stop()  # this test is the worker, and commits everything in the worst order
    slots, count = 4, 64 * 21

    async def read() -> None:
        alink = AsyncLink(RedisSettings(url=redis_url))
        settings = GatewaySettings(reply_slots=slots)
        planned = await alink.run(plan(alink.keys, MintRequest(count=count), reply_terms(settings)))
        replies = Replies(alink, limit=1, limit_bytes=1)
        async with replies.open(planned) as reply:
            assert commit_backwards() == slots
            starts = []
            async for batch in reply.batches():
                starts.append(batch.column("index")[0].as_py())
                assert reply.held < slots
                made = link.run(ring_stats(link.keys, planned.ring.name)).committed
                assert made - len(starts) < slots
                commit_backwards()
            assert starts == list(range(0, count, 64))
        assert len(replies) == 0
        await alink.close()

    def commit_backwards() -> int:
        tickets = []
        while ticket := link.run(claim(link.keys, ["small"])):
            tickets.append(ticket)
        for ticket in reversed(tickets):
            assert link.run(commit(link.keys, ticket, mint(ticket), len(ticket.indices))) == "committed"
        return len(tickets)

    asyncio.run(read())
    assert not traces()


@pytest.mark.parametrize("limit", [{"max_streams": 1}, {"max_reply_bytes": 2**20}], ids=["streams", "bytes"])
def test_beyond_a_limit_a_request_is_told_to_wait(make_gateway, workers, large, traces, until, limit):
    workers(generators=(large,))
    url = make_gateway(**limit).url
    with SlowClient(url, {"count": LARGE_COUNT}) as client:
        client.read_head()
        refused = httpx.post(f"{url}/v1/batches", json={"count": 1})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert refused.json()["type"].endswith(":busy")
    until(lambda: not traces())
    assert httpx.post(f"{url}/v1/batches", json={"count": 1}).status_code == 200


@pytest.mark.parametrize("end", ["failed", "deadline", "short"])
def test_an_order_that_ends_in_mid_stream_is_never_a_short_stream(make_gateway, workers, until, end, traces):
    def hook(ticket) -> str | None:
        if ticket.number == 3 and end == "failed":
            return "out of luck"
        time.sleep(1.0 if ticket.number == 3 and end == "deadline" else 0.01)
        return None

    def cut(ticket, rows: int) -> int:
        return rows - 1 if ticket.number == 3 and end == "short" else rows

    workers(hook=hook, cut=cut)
    url = make_gateway(buffer_bytes=0).url
    with httpx.stream("POST", f"{url}/v1/batches", json={"count": 64 * 50, "deadline_s": 0.6}) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            list(response.iter_raw())
    until(lambda: not traces(), 3)


def test_a_gateway_that_stops_lets_open_streams_finish(make_gateway, workers):
    workers(hook=lambda ticket: time.sleep(0.02))
    gateway = make_gateway(shutdown_s=10, buffer_bytes=0)
    with httpx.stream("POST", f"{gateway.url}/v1/batches", json={"count": 64 * 20}) as response:
        chunks = response.iter_raw()
        received = next(chunks)
        gateway.server.should_exit = True
        received += b"".join(chunks)
    assert pa.ipc.open_stream(received).read_all().num_rows == 64 * 20
    gateway.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/healthz")


def test_a_gateway_that_stops_does_not_wait_for_ever_and_leaves_nothing(make_gateway, workers, large, traces):
    workers(generators=(large,))
    gateway = make_gateway(shutdown_s=1)
    with SlowClient(gateway.url, {"count": LARGE_COUNT}) as client:
        client.read_head()
        gateway.stop()
        assert not traces()
