"""Requests that do not arrive, and requests that are too many, over bare sockets: none of them stays, and none of them
costs a way to Redis.
"""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx
import pytest

from nonesuch.errors import InvalidValue
from nonesuch.local.service import free_port
from nonesuch_gateway import server
from nonesuch_gateway.http import arrivals, crowd
from nonesuch_gateway.settings import GatewaySettings
from tests.helpers.certificates import make_certificate
from tests.integration.gateway.conftest import RunningGateway, StartWorkers, until

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MANY = 20
LATE = 408


def head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers]).encode() + b"\r\n\r\n"


class Unfinished(NamedTuple):
    """What a client sends, and goes on with for as long as it can, a byte at a time."""

    first: bytes
    drips: bytes = b""
    status: int | None = None
    """Of the last answer that it gets; None for none at all."""


JSON = "Content-Type: application/json"
UNFINISHED = {
    "nothing": Unfinished(b""),
    "empty lines": Unfinished(b"", b"\r\n"),
    "half a line": Unfinished(b"GET /heal", status=LATE),
    "half a head": Unfinished(b"GET /healthz HTTP/1.1\r\nHost: x\r\n", status=LATE),
    "a head in drips": Unfinished(b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n", LATE),
    "nothing after an answer": Unfinished(WHOLE, status=200),
    "empty lines after an answer": Unfinished(WHOLE, b"\r\n", 200),
    "half a head after an answer": Unfinished(WHOLE + b"GET /hea", status=LATE),
    "a head in drips after an answer": Unfinished(WHOLE + b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n", LATE),
    "half a body": Unfinished(head("POST", "/v1/batches", JSON, "Content-Length: 99") + b'{"count"', status=LATE),
    "a body in drips": Unfinished(head("POST", "/v1/orders", JSON, "Content-Length: 99999") + b"{", b" ", LATE),
    "half a chunk": Unfinished(head("POST", "/v1/batches", JSON, "Transfer-Encoding: chunked") + b"99\r\n{", b"", LATE),
    "half a snapshot": Unfinished(head("PUT", "/v1/snapshots/9", "Content-Length: 999") + b"x", b"x", LATE),
    "half a body of a GET": Unfinished(head("GET", "/v1/stats", "Content-Length: 999") + b"x", b"x", LATE),
    "a body that is not wanted": Unfinished(head("POST", "/nowhere", "Content-Length: 99999") + b"x", b"x", 404),
    "a body after 100": Unfinished(
        head("POST", "/v1/batches", JSON, "Content-Length: 99", "Expect: 100-continue"), b"", LATE
    ),
}


@pytest.fixture
def hasty(make_gateway, monkeypatch: pytest.MonkeyPatch) -> RunningGateway:
    monkeypatch.setattr(arrivals, "LEFTOVER_S", 0.4)
    return make_gateway(head_s=0.4, body_s=0.4, max_uploads=MANY)


def connected(running: RunningGateway) -> socket.socket:
    url = httpx.URL(running.url)
    return socket.create_connection((url.host, url.port), timeout=20)


def talk(peer: socket.socket, what: Unfinished) -> list[int]:
    """The statuses that came until the gateway closed; sends its drips as often as nothing comes for a moment."""
    came = b""
    with suppress(ConnectionError):
        peer.sendall(what.first)
        peer.settimeout(0.05 if what.drips else 20)
        while True:
            try:
                part = peer.recv(65_536)
            except TimeoutError:
                assert what.drips, "the connection stays open"
                peer.sendall(what.drips)
                continue
            if not part:
                break
            came += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", came)]


@pytest.mark.parametrize("what", UNFINISHED.values(), ids=UNFINISHED)
def test_what_does_not_arrive_does_not_stay(what: Unfinished, hasty: RunningGateway) -> None:
    came: list[list[int]] = []
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(hasty)) for _ in range(MANY)]
        threads = [Thread(target=lambda peer=peer: came.append(talk(peer, what))) for peer in peers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(came) == MANY
    assert {statuses[-1] if statuses else None for statuses in came} == {what.status}
    until(lambda: not hasty.server.server_state.connections)
    assert httpx.get(hasty.url + "/healthz").status_code == 200


def test_half_a_head_is_told_so(hasty: RunningGateway) -> None:
    with connected(hasty) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nX-Re")
        answer = b"".join(iter(lambda: peer.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head and b"Connection: close" in head
    assert "not whole after 0.4 s" in json.loads(body)["detail"]


def test_half_a_handshake_does_not_stay(make_gateway, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    running = make_gateway(tls_certificate=certificate, tls_key=key, head_s=0.4)
    hello, away = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=certificate).wrap_bio(away, hello, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    for first in (b"", hello.read()[:100]):
        with connected(running) as peer:
            assert talk(peer, Unfinished(first)) == []


def test_a_body_that_comes_slowly_but_comes_is_read(hasty: RunningGateway, workers: StartWorkers) -> None:
    """Each part is a second's worth, and comes later than `body_s` allows for the first."""
    workers()
    body = b'{"count": 5' + b" " * (2 * 16_384) + b"}"
    with connected(hasty) as peer:
        peer.sendall(head("POST", "/v1/batches", JSON, f"Content-Length: {len(body)}", "Connection: close"))
        peer.sendall(body[:-1])
        peer.settimeout(0.8)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(20)
        peer.sendall(body[-1:])
        assert peer.recv(12) == b"HTTP/1.1 200"


@contextmanager
def crowding(running: RunningGateway, number: int) -> Iterator[list[socket.socket]]:
    """Connections that were answered and stay."""
    with ExitStack() as stack:
        peers = [stack.enter_context(connected(running)) for _ in range(number)]
        for peer in peers:
            peer.sendall(WHOLE)
            assert peer.recv(12) == b"HTTP/1.1 200"
        yield peers


LIMITS = {
    "in all": ({"max_connections": 3}, 503, "the gateway's own limit of 3 connections at once"),
    "of one": ({"max_connections_per_address": 3}, 429, "the gateway's own limit of 3 connections of one address"),
}


@pytest.mark.parametrize(("limit", "status", "detail"), LIMITS.values(), ids=LIMITS)
def test_too_many_connections_are_told_so_before_redis_is_asked(limit, status, detail, make_gateway) -> None:
    running = make_gateway(url=f"redis://127.0.0.1:{free_port()}/0", **limit)  # there is no Redis
    with crowding(running, 3) as peers:
        for path in ("/readyz", "/v1/stats", "/v1/generators"):
            refused = httpx.get(running.url + path)
            assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/problem+json")
            assert refused.json()["detail"].startswith(detail)
            assert int(refused.headers["Retry-After"]) > 0 and refused.headers["Connection"] == "close"
        assert httpx.get(running.url + "/healthz").status_code == 200  # full is not ill
        assert httpx.get(running.url + "/metrics").status_code == 200
        peers.pop().close()
        until(lambda: "no answer from Redis" in httpx.get(running.url + "/readyz").json()["detail"])


def test_too_many_connections_without_a_head_are_closed_soon(make_gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "REFUSED_S", 0.2)
    running = make_gateway(max_connections=3)
    with crowding(running, 3):
        with connected(running) as silent:
            assert talk(silent, Unfinished(b"")) == []
        with connected(running) as slow:
            assert talk(slow, Unfinished(b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n")) == [LATE]


def test_more_than_can_be_told_so_are_closed_at_once(make_gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REFUSED_AT_ONCE", 2)
    monkeypatch.setattr(arrivals, "REFUSED_S", 20.0)
    running = make_gateway(max_connections=1)
    with crowding(running, 1), connected(running), connected(running):
        until(lambda: len(running.server.server_state.connections) == 3)
        with connected(running) as beyond:
            assert talk(beyond, Unfinished(b"")) == []


def test_a_trusted_proxy_is_everybody_and_its_clients_have_the_limit(make_gateway, workers, gate) -> None:
    workers(hook=gate)
    running = make_gateway(max_connections_per_address=2, trusted_proxies="127.0.0.0/8, 10.0.0.0/8")

    def ask(peer: socket.socket, forwarded: str) -> None:
        body = b'{"count": 3}'
        name = f"X-Forwarded-For: {forwarded}"
        peer.sendall(head("POST", "/v1/batches", JSON, name, f"Content-Length: {len(body)}") + body)

    with ExitStack() as stack:
        opened = [stack.enter_context(connected(running)) for _ in range(4)]
        for peer, client in zip(opened, ("192.0.2.1", "6.6.6.6, 192.0.2.1, 10.1.1.1", "192.0.2.2", ""), strict=True):
            ask(peer, client)
        until(lambda: in_flight(running) == len(opened))
        for spelled in ("192.0.2.1", "192.0.2.2, 192.0.2.1", "192.0.2.1:1234", "::ffff:192.0.2.1"):
            refused = httpx.get(running.url + "/v1/stats", headers={"X-Forwarded-For": spelled})
            assert refused.status_code == 429, spelled
            assert refused.json()["detail"].startswith("the gateway's own limit of 2 requests of one address at once")
        for other in ("192.0.2.2", "192.0.2.1, 192.0.2.9", "nonsense", "192.0.2.1, nonsense"):
            assert httpx.get(running.url + "/v1/stats", headers={"X-Forwarded-For": other}).status_code == 200, other
        gate.open()
        for peer in opened:
            assert peer.recv(12) == b"HTTP/1.1 200"
    until(lambda: httpx.get(running.url + "/v1/stats", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200)


def in_flight(running: RunningGateway) -> int:
    lines = httpx.get(running.url + "/metrics").text.splitlines()
    value = next(line for line in lines if line.startswith("nonesuch_gateway_requests_in_flight "))
    return int(float(value.split()[1])) - 1  # the question itself


def test_of_others_nobody_reads_whom_they_speak_for(make_gateway) -> None:
    running = make_gateway(max_connections_per_address=1)
    with crowding(running, 1):
        assert httpx.get(running.url + "/v1/stats", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 429


def test_more_connections_than_a_process_may_have_are_refused_at_the_start() -> None:
    with pytest.raises(InvalidValue, match=r"connections take \d+ open files and this process may have"):
        server.make_server(GatewaySettings(max_connections=10**12))


def test_addresses_count_as_their_owners_have_them() -> None:
    one = {"2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3%eth0"}
    assert len({crowd.household(each) for each in one}) == 1
    assert len({crowd.household(each) for each in ("2001:db8:0:2::1", "2001:db8:0:1::1", "192.0.2.1", "")}) == 4
    assert crowd.household("::ffff:192.0.2.1") == crowd.household("192.0.2.1")
