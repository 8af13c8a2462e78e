"""A gateway that stops: what is open ends well or is cut off, who comes is sent away, and nothing is left in Redis."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow as pa
import pytest

from nonesuch.errors import InvalidValue
from nonesuch_gateway.settings import GatewaySettings
from tests.helpers.counters import open_orders


@contextlib.contextmanager
def command(redis_url: str, **settings: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nonesuch gateway` as a process, and its URL."""
    env = {f"NONESUCH_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "nonesuch", "gateway", "--port", "0", "--redis", redis_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[1]
        finally:
            process.kill()


def refused(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0 and response.headers["connection"] == "close"
    problem = response.json()
    assert problem["type"] == "urn:nonesuch:problem:unavailable" and "stopping" in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]


def drains(url: str) -> bool:
    return "stopping" in httpx.get(f"{url}/readyz").text


def test_a_stream_goes_on_to_its_end_and_new_requests_are_sent_away(http, redis_url, workers, until, traces):
    began = threading.Event()

    def hook(ticket) -> None:
        if began.is_set() and ticket.number > 10:
            time.sleep(0.03)

    workers(hook=hook)
    ask = {"count": 64 * 40, "seed": 3}
    whole = http.post("/v1/batches", json=ask).content
    began.set()
    with command(redis_url, buffer_bytes=0) as (process, url), httpx.Client(base_url=url) as kept_alive:
        assert kept_alive.get("/readyz").status_code == 200
        with httpx.stream("POST", f"{url}/v1/batches", json=ask) as response:
            chunks = response.iter_raw()
            received = next(chunks)
            process.send_signal(signal.SIGTERM)
            until(lambda: drains(url))
            refused(kept_alive.post("/v1/batches", json={"count": 1}))  # over a connection from before
            refused(httpx.post(f"{url}/v1/batches", json={"count": 1}))  # over a new one
            refused(httpx.get(f"{url}/readyz"))
            assert httpx.get(f"{url}/healthz").status_code == 200
            assert "nonesuch_gateway_stopping 1.0" in httpx.get(f"{url}/metrics").text
            received += b"".join(chunks)
        assert received == whole
        assert process.wait(10) == 0
        assert not traces()


@pytest.mark.parametrize("twice", [False, True], ids=["after-shutdown_s", "at-the-second-ctrl-c"])
def test_a_stream_that_takes_too_long_is_cut_off_and_leaves_nothing(redis_url, workers, link, until, traces, twice):
    workers(hook=lambda ticket: time.sleep(0.05))
    with command(redis_url, buffer_bytes=0, shutdown_s=30 if twice else 1) as (process, url):
        with httpx.stream("POST", f"{url}/v1/batches", json={"count": 64 * 1000}) as response:
            chunks = response.iter_raw()
            next(chunks)
            process.send_signal(signal.SIGINT)
            if twice:
                until(lambda: drains(url))
                process.send_signal(signal.SIGINT)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                list(chunks)
        assert process.wait(10) == 0
        assert not traces()


def test_a_request_that_is_cut_before_its_answer_began_is_told_so(make_gateway, workers, link, until, gate, traces):
    workers(hook=gate)
    gateway = make_gateway(shutdown_s=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, f"{gateway.url}/v1/batches", json={"count": 64 * 3}, timeout=20)
        until(lambda: link.run(open_orders(link.keys)) == 1)
        gateway.server.should_exit = True
        refused(waiting.result())
    gateway.stop()
    assert not traces()


def test_watchers_are_sent_away_at_once(make_gateway, workers, gate, link, until, traces):
    workers(hook=gate)
    gateway = make_gateway(shutdown_s=30)
    links = httpx.post(f"{gateway.url}/v1/orders", json={"count": 64}).json()["links"]
    with httpx.stream("GET", f"{gateway.url}{links['events']}") as response:
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith("event")) == "event: progress"
        gateway.server.should_exit = True
        rest = list(lines)  # to the end of the answer, without an error
    assert [line for line in rest if line.startswith("retry: ")]
    assert not [line for line in rest if line.startswith("event: ")]  # the order goes on
    gateway.stop()
    assert link.run(open_orders(link.keys)) == 1
    httpx.delete(f"{make_gateway().url}{links['self']}")
    until(lambda: not traces())


def test_a_request_that_is_half_sent_goes_on(make_gateway, workers, until):
    workers()
    gateway = make_gateway(shutdown_s=10)
    half = threading.Event()

    def body() -> Iterator[bytes]:
        yield b'{"count": '
        half.wait(10)
        yield b"3}"

    with ThreadPoolExecutor(1) as pool:
        headers = {"Content-Type": "application/json"}
        sending = pool.submit(httpx.post, f"{gateway.url}/v1/batches", content=body(), headers=headers, timeout=20)
        until(lambda: "nonesuch_gateway_requests_in_flight 2.0" in httpx.get(f"{gateway.url}/metrics").text)
        gateway.server.should_exit = True
        until(lambda: drains(gateway.url))
        half.set()
        assert pa.ipc.open_stream(sending.result().content).read_all().num_rows == 3
    gateway.stop()


def test_a_gateway_without_requests_says_for_a_while_that_it_stops(make_gateway, until):
    gateway = make_gateway(drain_s=0.6)
    gateway.server.should_exit = True
    until(lambda: drains(gateway.url))
    refused(httpx.get(f"{gateway.url}/v1/strategies"))
    gateway.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/healthz")


def test_beyond_so_many_watchers_the_next_is_told_to_wait(make_gateway, workers, gate, until):
    workers(hook=gate)
    with httpx.Client(base_url=make_gateway(max_watchers=1).url) as http:
        links = http.post("/v1/orders", json={"count": 64}).json()["links"]
        with http.stream("GET", links["events"]) as response:
            lines = response.iter_lines()  # httpx closes the connection of a forgotten iterator
            next(lines)
            busy = http.get(links["events"])
            assert busy.status_code == 503 and int(busy.headers["retry-after"]) > 0
            assert busy.json()["type"].endswith(":unavailable") and "1 clients" in busy.json()["detail"]
            assert "nonesuch_gateway_event_watchers 1.0" in http.get("/metrics").text
        until(lambda: "nonesuch_gateway_event_watchers 0.0" in http.get("/metrics").text)
        gate.open()
        assert http.get(links["events"]).status_code == 200
        http.delete(links["self"])


def test_a_stopped_gateways_rows_can_be_fetched_from_the_next(make_gateway, workers):
    workers()
    first = make_gateway()
    response = httpx.post(f"{first.url}/v1/batches", json={"count": 70})
    first.stop()
    again = httpx.get(f"{make_gateway().url}{response.headers['content-location']}")
    assert again.content == response.content
    assert pa.ipc.open_stream(again.content).read_all().num_rows == 70


def test_a_drain_that_is_longer_than_the_shutdown_is_refused():
    with pytest.raises(InvalidValue, match="drain_s 20 is beyond shutdown_s 10"):
        GatewaySettings.from_env({"NONESUCH_GATEWAY_DRAIN_S": "20"})
