"""Log lines: one for each request, the libraries' in the same form, with the request's id and without secrets."""

import asyncio
import contextlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from nonesuch.errors import InvalidValue
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.telemetry import logs
from nonesuch_gateway.telemetry.logs import JsonFormatter, TextFormatter
from nonesuch_gateway.telemetry.metrics import Metrics
from nonesuch_gateway.telemetry.observe import Observe

COMMAND = "import typer; from nonesuch_gateway.cli import gateway; typer.run(gateway)"


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("nonesuch_gateway.x", logging.WARNING, "x.py", 1, message, (), None)
    made.__dict__.update(extra)
    return made


@pytest.fixture
def lines():
    """`lines()`: what gateways of this process have logged so far, each line from JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def requests(lines, until):
    """`requests(n)`: the lines of n requests, when they are there."""

    def found() -> list[dict]:
        return [line for line in lines() if line["logger"] == "nonesuch_gateway.access"]

    def wait(count: int) -> list[dict]:
        until(lambda: len(found()) >= count)
        return found()

    return wait


def test_a_request_is_one_line(http, workers, requests):
    workers()
    response = http.post("/v1/batches?seed_of=me", json={"count": 100}, headers={"X-Request-Id": "mine-1"})
    (line,) = requests(1)
    assert line["request_id"] == "mine-1"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/batches", 200)
    assert line["bytes"] == len(response.content) and 0 < line["ms"] < 20_000
    assert (line["aborted"], line["complete"], line["token"]) == (False, True, None)
    assert line["order"].startswith(response.headers["x-nonesuch-order"])
    assert (line["format"], line["images"], line["outcome"]) == ("arrow", 100, "done")
    assert line["level"] == "info" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["message"].startswith("POST /v1/batches 200 in ") and "mine-1" not in line["message"]


def test_an_error_is_one_too_and_names_no_more_than_the_route(http, requests):
    response = http.get("/v1/generators/nobody?token=SECRET", headers={"Authorization": "Bearer SECRET"})
    (line,) = requests(1)
    assert (line["status"], line["route"]) == (response.status_code, "/v1/generators/{generator_id}")
    assert line["request_id"] == response.headers["x-request-id"] == response.json()["request_id"]
    assert "SECRET" not in json.dumps(line) and "nobody" not in json.dumps(line)


def test_a_client_that_leaves_is_said_to_have(http, workers, requests):
    workers(hook=lambda ticket: time.sleep(0.05))
    with http.stream("POST", "/v1/batches?format=webdataset", json={"count": 64 * 1000}) as response:
        chunks = response.iter_raw()  # httpx closes the connection of a forgotten iterator
        next(chunks)
    (line,) = requests(1)
    assert (line["status"], line["aborted"], line["complete"], line["outcome"]) == (200, True, False, "cancelled")
    assert line["message"].endswith("(cancelled), aborted by the client")


def test_a_stream_that_is_cut_off_is_not_the_clients_doing(make_gateway, workers, requests, lines):
    workers(hook=lambda ticket: "out of luck" if ticket.number == 30 else None)
    url = make_gateway(buffer_bytes=0).url
    with (
        httpx.stream("POST", f"{url}/v1/batches", json={"count": 64 * 50}) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        list(response.iter_raw())
    (line,) = requests(1)
    assert (line["aborted"], line["complete"], line["outcome"]) == (False, False, "failed")
    (why,) = [line for line in lines() if line["logger"] == "nonesuch_gateway.replies.streams"]
    assert why["request_id"] == line["request_id"] and "out of luck" in why["message"]


def test_a_bug_is_logged_with_its_request(make_gateway, workers, requests, lines, monkeypatch):
    def broken(*args: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("nonesuch_gateway.routes.batches.plan", broken)
    workers()
    response = httpx.post(f"{make_gateway().url}/v1/batches", json={"count": 1}, headers={"X-Request-Id": "mine-2"})
    assert response.status_code == 500
    (line,) = requests(1)
    assert (line["status"], line["level"], line["request_id"]) == (500, "warning", "mine-2")
    (trace,) = [line for line in lines() if line["logger"] == "uvicorn.error"]
    assert trace["request_id"] == "mine-2" and "ZeroDivisionError: a bug" in trace["exception"]


def test_of_a_token_only_its_id_is_logged(lines):
    @dataclass
    class Token:
        id: str
        secret: str

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["token"] = Token("k1", "SECRET")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def nothing(message: object = None) -> dict[str, object]:
        return {"type": "http.disconnect"}

    asyncio.run(Observe(answer, Metrics())({"type": "http", "method": "GET"}, nothing, nothing))
    (line,) = lines()
    assert line["token"] == "k1" and "token k1" in line["message"] and "SECRET" not in json.dumps(line)


def test_probes_are_for_debugging_only(http, requests):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/strategies"):
        http.get(path)
    assert [line["route"] for line in requests(1)] == ["/v1/strategies"]


def test_requests_at_the_same_time_keep_their_ids_apart(http, workers, requests):
    workers(hook=lambda ticket: time.sleep(0.02))
    with contextlib.ExitStack() as stack:
        for i in range(8):
            ask = {"count": 64 + i, "seed": i}
            stack.enter_context(http.stream("POST", "/v1/batches", json=ask, headers={"X-Request-Id": f"r{i}"})).read()
    assert {line["request_id"]: line["images"] for line in requests(8)} == {f"r{i}": 64 + i for i in range(8)}


def test_text_is_one_readable_line():
    token = logs.request_id.set("mine-3")
    try:
        line = TextFormatter().format(record("two\nlines \x1b[31m of “words”"))
    finally:
        logs.request_id.reset(token)
    assert line.endswith(" WARNING nonesuch_gateway.x: two\\nlines \\x1b[31m of “words” [mine-3]")
    assert "[" not in TextFormatter().format(record("outside"))


def test_json_is_one_line_whatever_is_in_it():
    text = JsonFormatter().format(record("two\nlines \ud800", fields={"odd": object()}))
    assert "\n" not in text
    assert json.loads(text)["message"] == "two\nlines \ud800" and json.loads(text)["request_id"] is None


def test_the_form_is_a_setting():
    assert GatewaySettings.from_env({"NONESUCH_GATEWAY_LOG_FORMAT": "json"}).log_format == "json"
    assert GatewaySettings.from_env({}).log_format is None
    with pytest.raises(InvalidValue, match="NONESUCH_GATEWAY_LOG_FORMAT"):
        GatewaySettings.from_env({"NONESUCH_GATEWAY_LOG_FORMAT": "xml"})


@pytest.mark.parametrize(("options", "is_json"), [((), True), (("--log-format", "text"), False)])
def test_the_commands_log(redis_url, options, is_json):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--port", "0", "--redis", redis_url, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        url = process.stdout.readline().split()[1]
        httpx.get(f"{url}/v1/strategies?access_token=SECRET", headers={"X-Request-Id": "mine-4"})
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port)) as garbage:
            garbage.sendall(b"not HTTP at all\r\n\r\n")
            assert garbage.recv(100)
        process.send_signal(signal.SIGINT)
        first, *rest = process.stderr.read().splitlines()
        assert process.wait(10) == 0
    assert "SECRET" not in first and "mine-4" in first
    assert any("Invalid HTTP request" in line for line in rest)
    if is_json:
        assert [json.loads(line)["logger"] for line in (first, *rest)] == ["nonesuch_gateway.access", "uvicorn.error"]
    else:
        assert re.search(r"INFO nonesuch_gateway.access: GET /v1/strategies 200 in .* bytes \[mine-4\]$", first)
