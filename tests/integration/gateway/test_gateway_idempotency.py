"""Idempotency-Key: the same request again is the same images, or the same order; anything else is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from nonesuch.link import Call
from nonesuch_gateway.access.idempotency import KEPT_S, SENT_S
from nonesuch_gateway.access.tokens import editing, make_token
from tests.helpers.counters import open_orders

URN = "urn:nonesuch:problem:"
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
PLACES = ("/v1/batches", "/v1/orders")


def problem(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.json()["type"] == (kind if kind == "about:blank" else URN + kind)
    return response.json()["detail"]


@pytest.fixture
def kept(traces) -> Callable[[], list[bytes]]:
    """What is kept for keys."""
    return lambda: [key for key in traces() if b":once:" in key]


@pytest.fixture
def bearer(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """`bearer(...)`: the header of a new token with these limits, in `tmp_path / "tokens.json"`."""

    def make(**limits: object) -> dict[str, str]:
        token, text = make_token("a test", ("mint",), **limits)
        with editing(tmp_path / "tokens.json") as tokens:
            tokens[token.id] = token
        return {"Authorization": f"Bearer {text}"}

    return make


def test_the_same_request_gets_the_same_images(http, workers, link, kept, make_gateway, until):
    workers()
    first, again = (http.post("/v1/batches", json={"count": 70}, headers=KEY) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    for name in ("x-nonesuch-seed", "etag", "content-location"):
        assert first.headers[name] == again.headers[name]
    elsewhere = httpx.post(f"{make_gateway().url}/v1/batches", json={"count": 70}, headers=KEY)
    assert elsewhere.content == first.content
    other_key = http.post("/v1/batches", json={"count": 70}, headers={"Idempotency-Key": "another"})
    without = http.post("/v1/batches", json={"count": 70})
    assert len({r.headers["x-nonesuch-seed"] for r in (first, other_key, without)}) == 3
    assert len(kept()) == 2

    def time_to_live():
        return (yield Call("TTL", kept()[0]))

    until(lambda: 0 < link.run(time_to_live()) <= SENT_S)


def test_it_is_kept_for_those_who_did_not_get_all(http, workers, link, kept, until):
    workers()
    with http.stream("POST", "/v1/batches", json={"count": 100_000}, headers=KEY) as response:
        next(response.iter_raw())

    def time_to_live():
        return (yield Call("TTL", kept()[0]))

    until(lambda: link.run(open_orders(link.keys)) == 0)
    assert KEPT_S - 60 < link.run(time_to_live()) <= KEPT_S


def test_the_same_request_is_the_same_order(http, workers, link, traces, kept):
    workers(hook=lambda ticket: None)
    first, again = (http.post("/v1/orders", json={"count": 70}, headers=KEY) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.headers["location"] == again.headers["location"]
    assert first.json()["id"] == again.json()["id"]
    assert len([key for key in traces() if key.endswith(b":rings")]) == 1
    http.delete(first.headers["location"])
    assert traces() == kept() != []
    assert "send a new key" in problem(http.post("/v1/orders", json={"count": 70}, headers=KEY), 409, "conflict")
    assert link.run(open_orders(link.keys)) == 0


@pytest.mark.parametrize("place", PLACES)
def test_another_request_with_the_same_key_is_refused(http, workers, link, place):
    workers()
    assert http.post(place, json={"count": 5, "params": {"sigma": 1.0}}, headers=KEY).status_code in (200, 202)
    other = "/v1/orders" if place == "/v1/batches" else "/v1/batches"
    for url, body in (
        (place, {"count": 6, "params": {"sigma": 1.0}}),
        (f"{place}?format=npz", {"count": 5, "params": {"sigma": 1.0}}),
        (other, {"count": 5, "params": {"sigma": 1.0}}),
    ):
        response = http.post(url, json=body, headers=KEY)
        assert "a key of its own" in problem(response, 422, "invalid-value")
        assert [error["pointer"] for error in response.json()["errors"]] == ["#/Idempotency-Key"]
    same = http.post(
        place, content='{"params": {"sigma": 1.0},  "count": 5}', headers={**KEY, "Content-Type": "a/json"}
    )
    assert same.status_code == 415  # not JSON by its name; the next one differs from the first only in its spelling
    spelt = {**KEY, "Content-Type": "application/json"}
    assert http.post(place, content='{"params": {"sigma": 1.0},  "count": 5}', headers=spelt).status_code in (200, 202)


@pytest.mark.parametrize("place", PLACES)
def test_the_same_request_at_the_same_time_happens_once(http, workers, link, place):
    workers()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.post(place, json={"count": 5}, headers=KEY), range(16)))
    good = [r for r in answers if r.status_code in (200, 202)]
    assert good and len({r.headers.get("location") or r.headers["x-nonesuch-seed"] for r in good}) == 1
    for response in answers:
        if response not in good:
            assert "try again" in problem(response, 409, "conflict")


@pytest.mark.parametrize("place", PLACES)
def test_a_request_that_is_refused_is_forgotten(make_gateway, workers, traces, place):
    with httpx.Client(base_url=make_gateway(max_orders=1, max_streams=1).url, timeout=20) as http:
        assert http.post(place, json={"count": 5}, headers=KEY).status_code == 503  # no workers
        workers(hook=lambda ticket: "out of luck" if ticket.order.seed == 13 else None)
        assert http.post(place, json={"count": 0}, headers=KEY).status_code == 422
        assert http.post(place, json={"count": 5, "generator": "none"}, headers=KEY).status_code == 404
        assert not traces()
        if place == "/v1/batches":
            assert http.post(place, json={"count": 5, "seed": 13}, headers=KEY).status_code == 502
            assert not traces()
            assert http.post(place, json={"count": 5}, headers=KEY).status_code == 200
            return
        waiting = http.post(place, json={"count": 5}).headers["location"]
        problem(http.post(place, json={"count": 5}, headers=KEY), 429, "busy")
        http.delete(waiting)
        assert not traces()
        assert http.post(place, json={"count": 5}, headers=KEY).status_code == 202


@pytest.mark.parametrize("key", [b"", b"x" * 256, "ü".encode(), b"a\tb"])
def test_what_is_no_key(http, key, traces):
    for place in PLACES:
        response = http.post(place, json={"count": 5}, headers={"Idempotency-Key": key})
        assert "printable" in problem(response, 400, "about:blank")
    assert not traces()


def test_a_recipe_that_is_too_long_is_not_kept(http, workers, small, kept):
    classes = tuple(f"class {number}" for number in range(3000))
    workers(generators=(small.model_copy(update={"class_names": classes}),))
    counts = [(number * 7919) % 9 for number in range(3000)]
    quota = {str(number): count for number, count in enumerate(counts) if count}
    refused = http.post("/v1/batches", json={"quota": quota}, headers=KEY)
    assert "give a seed" in problem(refused, 422, "invalid-value")
    seeded = [http.post("/v1/batches", json={"quota": quota, "seed": 3}, headers=KEY) for _ in range(2)]
    assert seeded[0].status_code == 200 and seeded[0].content == seeded[1].content
    assert not kept()


def test_tokens_have_keys_of_their_own(tmp_path, bearer, make_gateway, workers):
    workers()
    one, two = bearer(), bearer()
    with httpx.Client(base_url=make_gateway(tokens=tmp_path / "tokens.json").url, timeout=20) as http:
        answers = [http.post("/v1/orders", json={"count": 5}, headers={**KEY, **token}) for token in (one, two, one)]
        first, other, again = (answer.headers["location"] for answer in answers)
        assert first == again != other
        assert http.post("/v1/orders", json={"count": 6}, headers={**KEY, **two}).status_code == 422


def test_images_of_a_request_that_is_repeated_count_once(tmp_path, bearer, make_gateway, workers, kept):
    workers()
    token = bearer(images_per_day=100)
    with httpx.Client(base_url=make_gateway(tokens=tmp_path / "tokens.json").url, timeout=20) as http:
        for place, left in (("/v1/orders", 60), ("/v1/batches", 20)):
            headers = {"Idempotency-Key": place, **token}
            first = http.post(place, json={"count": 40}, headers=headers)
            assert f'"images";r={left};' in first.headers["ratelimit"]
            for _ in range(2):
                again = http.post(place, json={"count": 40}, headers=headers)
                assert again.status_code == first.status_code and "ratelimit" not in again.headers
        for place in PLACES:
            refused = http.post(place, json={"count": 40}, headers={"Idempotency-Key": "another", **token})
            problem(refused, 429, "rate-limited")
        assert len(kept()) == 2
