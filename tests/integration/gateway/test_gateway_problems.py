"""Every error is a problem: its status, its type, the part of the request it is about, and what to do."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from nonesuch.catalog import withdraw
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.orders import Order
from tests.helpers.counters import open_orders

URN = "urn:nonesuch:problem:"


def problem(response: httpx.Response, status: int, kind: str | None = None) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status and document["detail"] and document["title"]
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["type"] == ("about:blank" if kind is None else URN + kind)
    return document


@pytest.mark.parametrize(
    ("body", "kind", "pointer", "words"),
    [
        ({"count": 5, "classes": ["bea"]}, "invalid-order", "#/classes", "did you mean bee"),
        ({"count": 5, "classes": [9]}, "invalid-order", "#/classes", "unknown class 9"),
        ({"count": 5, "classes": []}, "invalid-order", "#/classes", "empty"),
        ({"count": 5, "classes": [True]}, "invalid-value", "#/classes/0", "valid"),
        ({"count": 5, "classes": ["x" * 500]}, "invalid-value", "#/classes/0", "255"),
        ({"count": -1}, "invalid-value", "#/count", "greater than or equal to 1"),
        ({"count": "64"}, "invalid-value", "#/count", "integer"),
        ({"count": 100_001}, "invalid-order", "#/count", "100000"),
        ({}, "invalid-order", "#/count", "neither count nor quota"),
        ({"quota": {"ant": 2}, "count": 3}, "invalid-order", "#/count", "adds up to 2"),
        ({"quota": {"ant": 2, "0": 3}}, "invalid-order", "#/quota", "twice"),
        ({"quota": {"ant": 0}}, "invalid-order", "#/quota", "at least one"),
        ({"quota": {"aunt": 1}}, "invalid-order", "#/quota", "did you mean ant"),
        ({"quota": {"ant": 1}, "classes": ["ant"]}, "invalid-order", "#/classes", "both"),
        ({"count": 5, "params": {"sigma": -1}}, "invalid-order", "#/params/sigma", "above 0"),
        ({"count": 5, "params": {"sigma": 3}}, "invalid-order", "#/params/sigma", "allows (2.0)"),
        ({"count": 5, "params": {"sigmo": 1}}, "invalid-order", "#/params", "sigmo"),
        ({"count": 5, "strategy": "magic"}, "invalid-order", "#/strategy", "choosy, mined, random"),
        ({"count": 5, "strategy": "choosy"}, "invalid-order", "#/teacher", "needs a teacher"),
        (
            {"count": 5, "strategy": "choosy", "teacher": {"version": -1}},
            "invalid-value",
            "#/teacher/version",
            "greater than",
        ),
        ({"count": 5, "generator": ["small", "small"]}, "invalid-order", "#/generator", "uses one generator"),
        ({"count": 5, "generator": []}, "invalid-value", "#/generator", "at least 1"),
        ({"count": 5, "strategy": "mined"}, "invalid-order", "#/snapshot", "needs a snapshot"),
        ({"count": 5, "seed": 2**63}, "invalid-value", "#/seed", "less than"),
        ({"count": 5, "deadline_s": 0}, "invalid-value", "#/deadline_s", "greater than 0"),
        ({"count": 5, "deadline_s": 1e9}, "invalid-order", "#/deadline_s", "3600"),
        ({"count": 5, "a/b": 1}, "invalid-value", "#/a~1b", "not permitted"),
        ([1], "invalid-value", "#", "dictionary"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(http, workers, body, kind, pointer, words):
    workers()
    document = problem(http.post("/v1/batches", json=body), 422, kind)
    (error,) = document["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]


@pytest.mark.parametrize("depth", [20, 300, 700, 900, 960, 980])
@pytest.mark.parametrize("before", ['{"count": 1, "x": ', '{"count": 1, "params": {"sigma": ', ""])
def test_a_body_that_is_nested_deeply(http, before, depth):
    sent = before + "[" * depth + "]" * depth + "}" * before.count("{")
    response = http.post("/v1/batches", content=sent, headers={"Content-Type": "application/json"})
    if response.status_code == 400:  # too deep even to be read
        assert "parsing" in problem(response, 400)["detail"]
    else:
        assert "nested deeper than 16" in problem(response, 422, "invalid-value")["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(http, number):
    sent = f'{{"count": 5, "params": {{"sigma": {number}}}}}'
    response = http.post("/v1/batches", content=sent, headers={"Content-Type": "application/json"})
    (error,) = problem(response, 422, "invalid-value")["errors"]
    assert error["pointer"] == "#/params/sigma" and "finite" in error["detail"]
    assert error["given"] in ("NaN", "Infinity")


def test_several_errors_are_reported_together(http):
    sent = r'{"count": 0, "seed": -1, "colour": "\ud800"}'
    response = http.post("/v1/batches", content=sent, headers={"Content-Type": "application/json"})
    document = problem(response, 422, "invalid-value")
    assert [e["pointer"] for e in document["errors"]] == ["#/count", "#/seed", "#/colour"]
    assert [e["given"] for e in document["errors"]] == ["0", "-1", '"\\ud800"']


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"count": 5', "at character 11"),
        (b"", "required"),
        (b"\x80\x80", "parsing"),
        (b"[" * 100_000, "parsing"),
        (b'{"count": ' + b"9" * 5000 + b"}", "parsing"),
    ],
    ids=["cut off", "empty", "not text", "deep", "long number"],
)
def test_a_body_that_is_not_json(http, content, words):
    response = http.post("/v1/batches", content=content, headers={"Content-Type": "application/json"})
    assert words in problem(response, 422 if not content else 400, None if content else "invalid-value")["detail"]


def test_a_body_of_another_type(http):
    response = http.post("/v1/batches", data={"count": "5"})
    assert "Content-Type: application/json" in problem(response, 415)["detail"]


def test_a_body_that_is_too_large(http):
    declared = http.post("/v1/batches", json={"count": 5, "params": {"x": "y" * 2**21}})
    chunked = http.post("/v1/batches", content=(b" " * 2**18 for _ in range(8)), headers={"Content-Type": "text/json"})
    for response in (declared, chunked):
        assert "1048576 are allowed" in problem(response, 413)["detail"]


def test_routes_and_methods_that_do_not_exist(http):
    assert "/v2/batches" in problem(http.post("/v2/batches", json={}), 404)["detail"]
    refused = http.get("/v1/batches")
    assert "allowed: POST" in problem(refused, 405)["detail"] and refused.headers["allow"] == "POST"


def test_things_that_are_named_and_not_there(http, workers):
    workers()
    unknown = http.post("/v1/batches", json={"count": 5, "generator": "biggan"})
    assert "hosted now: small" in problem(unknown, 404, "generator-not-found")["detail"]
    for version in ("latest", 3):
        ask = {"count": 5, "strategy": "mined", "snapshot": version, "channel": "mine"}
        assert "'mine'" in problem(http.post("/v1/batches", json=ask), 404, "snapshot-not-found")["detail"]


def test_nobody_is_there_to_mint(http):
    response = http.post("/v1/batches", json={"count": 5})
    assert "nonesuch worker" in problem(response, 503, "no-workers")["detail"]
    assert int(response.headers["retry-after"]) > 0


def test_every_worker_is_lost_while_a_client_waits(http, workers, link, until, monkeypatch):
    monkeypatch.setattr("nonesuch_gateway.replies.reading.PATIENCE_S", 0.2)
    (worker,) = workers()
    worker.stop()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(http.post, "/v1/batches", json={"count": 5})
        until(lambda: link.run(open_orders(link.keys)) == 1)
        link.run(withdraw(link.keys, worker.name))
        assert "was lost" in problem(waiting.result(), 503, "no-workers")["detail"]


def test_redis_does_not_answer(make_gateway, tmp_path):
    url = make_gateway(f"unix://{tmp_path}/nothing.sock").url
    assert httpx.get(f"{url}/healthz").status_code == 200
    for response in (httpx.get(f"{url}/readyz"), httpx.post(f"{url}/v1/batches", json={"count": 5})):
        assert "nothing.sock" in problem(response, 503, "unreachable")["detail"]
        assert int(response.headers["retry-after"]) > 0


def test_an_order_that_fails_says_why(http, workers, link):
    workers(hook=lambda ticket: "the snapshot has another shape")
    response = http.post("/v1/batches", json={"count": 5})
    assert "the snapshot has another shape" in problem(response, 502, "order-failed")["detail"]


@pytest.mark.parametrize("swept", [True, False], ids=["swept by a worker", "by the gateway's own clock"])
def test_a_deadline_that_passes(http, workers, link, swept):
    (worker,) = workers(hook=lambda ticket: time.sleep(0.6))
    if not swept:
        worker.stop()
    began = time.monotonic()
    response = http.post("/v1/batches", json={"count": 300, "deadline_s": 0.3})
    assert "deadline_s" in problem(response, 504, "take-timeout")["detail"]
    assert time.monotonic() - began < 3


def test_a_bug_is_a_problem_without_details(make_gateway, monkeypatch, caplog, until):
    def broken(*_: object) -> Order:
        raise RuntimeError("a secret")

    monkeypatch.setattr("nonesuch_gateway.routes.batches.plan", broken)
    response = httpx.post(f"{make_gateway().url}/v1/batches", json={"count": 5})
    assert "a secret" not in json.dumps(problem(response, 500))
    until(lambda: "a secret" in caplog.text)


def test_redis_restarted_while_a_client_waits(make_gateway, workers, until):
    with PrivateRedis() as private:
        url = make_gateway(private.url, buffer_bytes=0).url
        (worker,) = workers(url=private.url, hook=lambda ticket: time.sleep(0.1))
        with httpx.stream("POST", f"{url}/v1/batches", json={"count": 64 * 50}) as response:
            chunks = response.iter_raw()
            next(chunks)
            private.kill()
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                list(chunks)
        private.start()
        until(lambda: httpx.post(f"{url}/v1/batches", json={"count": 5}).status_code == 200)
        worker.stop()
