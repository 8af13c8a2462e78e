"""What a token may use: requests in a minute, images in a day, in Redis, and what an answer says of them."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from nonesuch.link import Call, Link
from nonesuch_gateway.access.limits import Meter, give_back, spend
from nonesuch_gateway.access.tokens import editing, make_token

URN = "urn:nonesuch:problem:"


def add(path: Path, **limits: object) -> dict[str, str]:
    """The header of a new token with `limits`."""
    token, text = make_token("a test", ("mint",), **limits)
    with editing(path) as tokens:
        tokens[token.id] = token
    return {"Authorization": f"Bearer {text}"}


def left(response: httpx.Response, meter: str) -> int:
    found = re.search(rf'"{meter}";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    assert found is not None, response.headers["ratelimit"]
    return int(found[1])


def refused(response: httpx.Response) -> tuple[int, str]:
    """After how long it says that there is room, and why there is none."""
    assert response.status_code == 429, response.text
    assert response.json()["type"] == URN + "rate-limited"
    return int(response.headers["retry-after"]), response.json()["detail"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def http(path: Path, make_gateway: Callable) -> httpx.Client:
    add(path)
    with httpx.Client(base_url=make_gateway(tokens=path).url, timeout=20) as client:
        yield client


@pytest.fixture
def spent(traces) -> Callable[[], list[bytes]]:
    """The keys that count."""
    return lambda: [key for key in traces() if b":spent:" in key]


def test_requests_in_a_minute(http, path):
    headers = add(path, requests_per_minute=3)
    for expected in (2, 1, 0):
        response = http.get("/v1/generators", headers=headers)
        assert response.status_code == 200 and left(response, "requests") == expected
        assert response.headers["ratelimit-policy"] == '"requests";q=3;w=60'
    last = http.get("/v1/generators", headers=headers)
    seconds, why = refused(last)
    assert 58 <= seconds <= 61 and "3 requests a minute" in why
    assert left(last, "requests") == 0
    assert http.get("/v1/generators", headers=add(path, requests_per_minute=3)).status_code == 200  # each has its own


def test_gateways_count_together(http, path, make_gateway):
    headers = add(path, requests_per_minute=2)
    with httpx.Client(base_url=make_gateway(tokens=path).url) as other:
        assert http.get("/v1/stats", headers=headers).status_code == 200
        assert other.get("/v1/stats", headers=headers).status_code == 200
        refused(http.get("/v1/stats", headers=headers))
        refused(other.get("/v1/stats", headers=headers))


def test_images_in_a_day_however_they_are_asked_for(http, path, workers):
    workers()
    headers = add(path, images_per_day=100)
    first = http.post("/v1/batches", json={"count": 40}, headers=headers)
    assert left(first, "images") == 60
    assert first.headers["ratelimit-policy"] == '"images";q=100;w=86400;qu="images"'
    again = http.get(first.headers["content-location"], headers=headers)
    assert left(again, "images") == 20
    order = http.post("/v1/orders", json={"count": 15}, headers=headers)
    assert left(order, "images") == 5
    results = http.get(order.json()["links"]["results"], headers=headers)
    assert results.status_code == 200 and "ratelimit" not in results.headers  # they were counted
    for path_ in ("/v1/batches", "/v1/orders"):
        response = http.post(path_, json={"count": 6}, headers=headers)
        seconds, why = refused(response)
        assert 86_000 < seconds <= 87_840 and "100 images a day, of which 5 are left" in why
        assert left(response, "images") == 5
    assert left(http.post("/v1/batches", json={"count": 5}, headers=headers), "images") == 0


def test_more_than_a_day_has_is_no_matter_of_waiting(http, path, workers, spent):
    workers()
    response = http.post("/v1/batches", json={"count": 101}, headers=add(path, images_per_day=100))
    assert response.status_code == 422 and "retry-after" not in response.headers
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/count"]
    assert not spent()


@pytest.mark.parametrize("place", ["/v1/batches", "/v1/orders"])
def test_images_of_what_is_refused_are_given_back(path, make_gateway, workers, spent, place):
    headers = add(path, images_per_day=100)
    limits = {"max_reply_bytes": 1, "max_streams": 1} if place == "/v1/batches" else {"max_orders": 1}
    with httpx.Client(base_url=make_gateway(tokens=path, **limits).url, timeout=20) as http:
        assert http.post(place, json={"count": 5}, headers=headers).status_code == 503  # no workers
        workers(hook=lambda ticket: "out of luck" if ticket.order.seed == 13 else None)
        assert http.post(place, json={"count": 0}, headers=headers).status_code == 422
        assert http.post(place, json={"count": 5, "classes": ["x"]}, headers=headers).status_code == 422
        assert not spent()
        if place == "/v1/batches":
            failed = http.post(place, json={"count": 64, "seed": 13}, headers=headers)
            assert failed.status_code == 502 and left(failed, "images") == 100
        else:
            assert http.post(place, json={"count": 36}, headers=headers).status_code == 202
            full = http.post(place, json={"count": 64}, headers=headers)
            assert full.status_code == 429 and full.json()["type"] == f"{URN}busy" and left(full, "images") == 64
    if place == "/v1/batches":
        assert not spent()


def test_what_is_refused_for_another_reason_takes_nothing(http, path, spent):
    headers = add(path, requests_per_minute=5, images_per_day=100)
    assert http.get("/v1/stats").status_code == 401
    assert http.get("/v1/snapshots", headers=headers).status_code == 403
    assert not spent()
    assert http.get("/v1/orders/none", headers=headers).status_code == 404  # this one was looked for
    assert [key.split(b":")[-1] for key in spent()] == [b"requests"]


def test_without_redis_a_limit_cannot_be_counted(path, make_gateway, tmp_path):
    url = make_gateway(f"unix://{tmp_path}/nothing.sock", tokens=path).url if add(path) else ""
    assert httpx.get(f"{url}/v1/strategies", headers=add(path, requests_per_minute=5)).status_code == 503


METER = Meter("images", 10, 1)
"""Its sixtieths are 17 ms."""


def pttl(link: Link, meter: str = "images") -> int:
    def ask():
        return (yield Call("PTTL", link.keys.spent("t", meter)))

    return link.run(ask())


def test_a_meter_fills_up_and_becomes_free_again(link, until):
    first = link.run(spend(link.keys, "t", METER, 6))
    assert (first.taken, first.left) == (True, 4) and 0.9 < first.full_in_s <= 1.02
    second = link.run(spend(link.keys, "t", METER, 5))
    assert (second.taken, second.left) == (False, 4) and 0.5 < second.fits_in_s <= 1.02
    assert link.run(spend(link.keys, "t", METER, 4)).left == 0
    assert link.run(spend(link.keys, "t", METER, 11)).fits_in_s is None
    assert 0 < pttl(link) <= 1017
    until(lambda: link.run(spend(link.keys, "t", METER, 10)).taken, 2)
    until(lambda: pttl(link) == -2, 2)  # and nothing is left of it


def test_no_window_ever_has_more_than_the_limit(link):
    """Whatever is asked whenever: as many are taken as fit, and never more."""

    def ask(_: int) -> bool:
        return link.run(spend(link.keys, "t", Meter("requests", 50, 60), 1)).taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(200))) == 50


def test_what_is_given_back_can_be_taken_again(link):
    taken = link.run(spend(link.keys, "t", METER, 10))
    link.run(give_back(link.keys, "t", taken, 4))
    again = link.run(spend(link.keys, "t", METER, 4))
    assert (again.taken, again.left) == (True, 0)


def test_what_no_longer_counts_is_not_given_back(link, until):
    taken = link.run(spend(link.keys, "t", METER, 10))
    until(lambda: pttl(link) == -2, 2)
    link.run(give_back(link.keys, "t", taken, 10))
    assert pttl(link) == -2
    link.run(spend(link.keys, "t", METER, 7))
    link.run(give_back(link.keys, "t", taken, 10))
    assert link.run(spend(link.keys, "t", METER, 4)).taken is False
