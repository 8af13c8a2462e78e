"""/v1/orders: placed with one gateway, watched and fetched at another, and nothing is left of them afterwards."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow as pa
import pytest

from nonesuch.link import Call
from nonesuch.readers import begin_reading
from nonesuch.rings import Delivery, release, ring_spec, take
from tests.helpers.counters import open_orders, ring_stats

URN = "urn:nonesuch:problem:"


def place(http: httpx.Client, **ask: object) -> dict:
    response = http.post("/v1/orders", json=ask)
    assert response.status_code == 202, response.text
    status = response.json()
    assert response.headers["location"] == status["links"]["self"] == f"/v1/orders/{status['id']}"
    return status


def state(http: httpx.Client, order: dict) -> dict:
    response = http.get(order["links"]["self"])
    assert response.status_code == 200, response.text
    return response.json()


def problem(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.json()["type"] == URN + kind
    return response.json()["detail"]


def rows(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


def test_an_order_is_made_in_the_background_and_fetched_from_another_gateway(
    http, make_gateway, workers, until, traces
):
    workers(2)
    order = place(http, count=500, seed=4)
    assert (order["count"], order["seed"], order["tickets"]["of"]) == (500, 4, 8)
    with httpx.Client(base_url=make_gateway().url) as other:
        until(lambda: state(other, order)["state"] == "done")
        done = state(other, order)
        assert (done["images"], done["tickets"]["made"], done["results"]) == (500, 8, "unread")
        results = other.get(order["links"]["results"])
    assert results.status_code == 200
    found = rows(results.content)
    assert found["index"].to_pylist() == list(range(500))
    assert set(found["order"].to_pylist()) == {order["order"]} == {results.headers["x-nonesuch-order"]}
    until(lambda: not traces())
    problem(http.get(order["links"]["self"]), 404, "order-not-found")
    problem(http.get(order["links"]["results"]), 404, "order-not-found")


def test_results_are_the_bytes_of_the_same_request_made_at_once(http, workers):
    workers()
    order = place(http, count=300, seed=9)
    results = http.get(order["links"]["results"])
    at_once = http.post("/v1/batches", json={"count": 300, "seed": 9})
    assert results.content == at_once.content
    for name in ("etag", "content-location"):
        assert results.headers[name] == at_once.headers[name]
    assert http.get(results.headers["content-location"]).content == results.content


def test_an_order_that_is_larger_than_its_ring_is_made_as_it_is_read(make_gateway, workers, link, until, traces):
    workers(2)
    with httpx.Client(base_url=make_gateway(order_bytes=4 * 65_536).url) as http:
        order = place(http, count=64 * 40)
        ring = f"order-{order['id']}"
        until(lambda: link.run(ring_stats(link.keys, ring)).free == 0)
        time.sleep(0.2)
        assert state(http, order)["tickets"] == {"made": 4, "of": 40}
        assert state(http, order)["state"] == "open"
        assert rows(http.get(order["links"]["results"]).content).num_rows == 64 * 40
    until(lambda: not traces())


def test_the_format_of_the_order_is_that_of_its_results_unless_they_name_another(http, workers):
    workers()
    for query, media_type in (("", "text/x"), ("?codec=zstd", "application/vnd.apache.arrow.stream; codecs=zstd")):
        order = place(http, count=5, format="arrow")
        results = http.get(order["links"]["results"] + query, headers={"Accept": "text/x"})
        expected = "application/vnd.apache.arrow.stream" if media_type == "text/x" else media_type
        assert results.headers["content-type"] == expected
    order = place(http, count=5)
    assert http.get(order["links"]["results"], headers={"Accept": "text/x"}).status_code == 406
    assert state(http, order)["results"] == "unread"
    for unknown in ("gif", ""):
        assert http.post("/v1/orders", json={"count": 5, "format": unknown}).status_code == 406
        assert http.post("/v1/orders", params={"format": unknown}, json={"count": 5}).status_code == 406
    too_large = http.post("/v1/orders", json={"count": 1025, "format": "png"})
    assert too_large.status_code == 422 and too_large.json()["errors"][0]["pointer"] == "#/count"
    http.delete(order["links"]["self"])


def test_a_cancelled_order_leaves_nothing(http, workers, gate, traces):
    workers(hook=gate)
    order = place(http, count=500)
    response = http.delete(order["links"]["self"])
    assert response.status_code == 200
    assert (response.json()["state"], response.json()["images"]) == ("cancelled", 0)
    assert not traces()
    problem(http.delete(order["links"]["self"]), 404, "order-not-found")


def test_an_order_that_nobody_asks_for_expires_and_leaves_nothing(make_gateway, workers, until, traces):
    workers()
    with httpx.Client(base_url=make_gateway(order_ttl_s=0.4).url) as http:
        asked, forgotten = place(http, count=100), place(http, count=100)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert state(http, asked)["id"] == asked["id"]
            time.sleep(0.05)
        problem(http.get(forgotten["links"]["results"]), 404, "order-not-found")
        assert rows(http.get(asked["links"]["results"]).content).num_rows == 100
    until(lambda: not traces())


def test_an_order_past_its_deadline_is_expired(http, workers, gate, until, traces):
    workers(hook=gate)
    order = place(http, count=500, deadline_s=0.2)
    until(lambda: state(http, order)["state"] == "expired")
    assert "deadline" in state(http, order)["reason"]
    gate.open()
    assert "0 of 500 images" in problem(http.get(order["links"]["results"]), 504, "take-timeout")
    http.delete(order["links"]["self"])
    assert not traces()


def test_an_order_that_fails_says_why_until_it_is_dropped(http, workers, until, traces):
    workers(hook=lambda ticket: "out of luck" if ticket.number == 2 else None)
    order = place(http, count=64 * 5)
    until(lambda: state(http, order)["state"] == "failed")
    failed = state(http, order)
    assert failed["reason"] == "out of luck" and failed["images"] == 128
    assert "out of luck" in problem(http.get(order["links"]["results"]), 502, "order-failed")
    assert http.delete(order["links"]["self"]).json()["state"] == "failed"
    assert not traces()


def test_results_are_read_by_one_client_at_a_time(http, workers, gate, until, traces):
    workers(hook=gate)
    order = place(http, count=300)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(http.get, order["links"]["results"])
        until(lambda: any(key.endswith(b":reader") for key in traces()))
        assert "another client" in problem(http.get(order["links"]["results"]), 409, "conflict")
        gate.open()
        assert rows(first.result().content).num_rows == 300
    until(lambda: not traces())


def test_a_reader_that_leaves_before_the_first_batch_may_come_again(http, workers, gate, until, traces):
    workers(hook=gate)
    order = place(http, count=300)
    with pytest.raises(httpx.ReadTimeout):
        http.get(order["links"]["results"], timeout=0.3)
    until(lambda: not any(key.endswith(b":reader") for key in traces()))
    gate.open()
    assert rows(http.get(order["links"]["results"]).content).num_rows == 300


def test_a_reader_that_leaves_in_the_middle_ends_the_order(http, workers, large, until, traces, link):
    workers(generators=(large,))
    order = place(http, count=64 * 40)
    with http.stream("GET", order["links"]["results"]) as response:
        chunks = response.iter_raw()
        while response.num_bytes_downloaded < 8 * 2**20:
            next(chunks)
        until(lambda: state(http, order)["results"] == "begun")
    until(lambda: not traces())
    assert link.run(open_orders(link.keys)) == 0
    problem(http.get(order["links"]["self"]), 404, "order-not-found")


def test_an_order_whose_reader_was_killed_goes_however_often_it_is_asked_for(http, workers, link, until, traces):
    workers()
    order = place(http, count=300)
    until(lambda: state(http, order)["state"] == "done")
    ring = link.run(ring_spec(link.keys, f"order-{order['id']}")).model_copy(update={"ttl_s": 0.3})
    link.run(begin_reading(link.keys, ring.name, "killed", lease_s=0.3))
    link.run(release(link.keys, ring, link.run(take(link.keys, ring, reader="killed")), reader="killed"))
    assert state(http, order)["results"] == "begun"
    problem(http.get(order["links"]["results"]), 409, "conflict")
    until(lambda: http.get(order["links"]["self"]).status_code == 404, 3)
    until(lambda: not traces())


def test_a_reader_that_was_followed_is_told_so_and_leaves_everything_to_the_next(http, link, workers, gate, until):
    workers(hook=gate)
    order = place(http, count=200)
    name = f"order-{order['id']}"

    def lease(command: str):
        return (yield Call(command, link.keys.reader(name)))

    with ThreadPoolExecutor() as threads:
        first = threads.submit(http.get, order["links"]["results"])
        until(lambda: link.run(lease("EXISTS")))
        link.run(lease("DEL"))  # its gateway was paused for so long
        link.run(begin_reading(link.keys, name, "next", lease_s=30))
        gate.open()
        assert "since the lease of this one ran out" in problem(first.result(), 409, "conflict")
    ring = link.run(ring_spec(link.keys, name))
    tickets = []
    while isinstance(taken := link.run(take(link.keys, ring, reader="next")), Delivery):
        tickets.append(taken.ticket)
        link.run(release(link.keys, ring, taken, reader="next"))
    assert sorted(tickets) == [0, 1, 2, 3] and taken.state == "done"


def test_cancelling_cuts_off_a_reader(http, workers, large, until, traces):
    workers(generators=(large,))
    order = place(http, count=64 * 40)
    with http.stream("GET", order["links"]["results"]) as response:
        chunks = response.iter_raw()
        next(chunks)
        assert http.delete(order["links"]["self"]).json()["state"] == "cancelled"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            list(chunks)
    until(lambda: not traces())


def test_orders_are_made_after_what_clients_wait_for(http, workers, gate, until, link):
    (worker,) = workers(hook=gate)
    order = place(http, count=64 * 30)
    with ThreadPoolExecutor(1) as pool:
        at_once = pool.submit(http.post, "/v1/batches", json={"count": 64})
        until(lambda: link.run(open_orders(link.keys)) == 2)
        gate.open()
        assert at_once.result().status_code == 200
    until(lambda: state(http, order)["state"] == "done")
    assert worker.committed[:2] == [0, 0]  # the order's first ticket was in the making already
    http.delete(order["links"]["self"])


def test_only_so_many_orders_are_kept(make_gateway, workers, traces):
    workers()
    with httpx.Client(base_url=make_gateway(max_orders=2).url) as http:
        orders = [place(http, count=5) for _ in range(2)]
        refused = http.post("/v1/orders", json={"count": 5})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert http.post("/v1/batches", json={"count": 5}).status_code == 200
        http.delete(orders.pop()["links"]["self"])
        orders.append(place(http, count=5))
        for order in orders:
            http.delete(order["links"]["self"])
    assert not traces()


def test_rings_of_the_dead_do_not_stand_in_the_way(make_gateway, workers):
    (worker,) = workers()
    worker.stop()  # nobody sweeps
    with httpx.Client(base_url=make_gateway(max_orders=1, order_ttl_s=0.1).url) as http:
        place(http, count=5)
        time.sleep(0.15)
        http.delete(place(http, count=5)["links"]["self"])


@pytest.mark.parametrize(
    ("ask", "status", "pointer"),
    [
        ({"count": 1_000_001}, 422, "#/count"),
        ({"count": 5, "classes": ["bea"]}, 422, "#/classes"),
        ({"count": 5, "deadline_s": 1e6}, 422, "#/deadline_s"),
        ({"count": 0}, 422, "#/count"),
    ],
)
def test_an_order_that_cannot_be_is_refused_and_leaves_nothing(http, workers, traces, ask, status, pointer):
    workers()
    response = http.post("/v1/orders", json=ask)
    assert response.status_code == status, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert not traces()


def test_an_order_may_be_larger_than_a_request(http, workers):
    workers()
    order = place(http, count=150_000)
    results = http.head(order["links"]["results"])
    assert results.status_code == 200 and "content-location" not in results.headers
    http.delete(order["links"]["self"])


@pytest.mark.parametrize("order_id", ["x", "a" * 32, f"{'a' * 32}.{'b' * 16}", "a" * 4000, "ü"])
@pytest.mark.parametrize("end", ["", "/events", "/results"])
def test_orders_that_never_were(http, order_id, end):
    problem(http.get(f"/v1/orders/{order_id}{end}"), 404, "order-not-found")


def test_head_of_every_get(http, workers, traces, until):
    workers()
    order = place(http, count=100)
    until(lambda: state(http, order)["state"] == "done")
    before = traces()
    types = [http.head(order["links"][name]).headers["content-type"] for name in ("self", "events", "results")]
    assert types == ["application/json", "text/event-stream; charset=utf-8", "application/vnd.apache.arrow.stream"]
    assert sorted(traces()) == sorted(before)
    assert http.head("/healthz").headers["content-length"] == str(len(http.get("/healthz").content))
    assert http.get(order["links"]["results"]).status_code == 200


def events(response: httpx.Response) -> list[dict[str, str]]:
    """Reads to the end; one dictionary for each event, with the fields that it has."""
    blocks = response.read().decode().strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_events_follow_an_order_to_its_end(http, workers, monkeypatch):
    monkeypatch.setattr("nonesuch_gateway.replies.events.POLL_S", 0.02)
    workers(hook=lambda ticket: time.sleep(0.05))
    order = place(http, count=64 * 6)
    with http.stream("GET", order["links"]["events"]) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        retry, *progress, end = events(response)
    assert int(retry["retry"]) > 0
    assert {event["event"] for event in progress} == {"progress"}
    made = [json.loads(event["data"])["tickets"]["made"] for event in progress]
    assert made == sorted(set(made)) and len(made) > 2
    assert [event["id"] for event in progress] == [str(n) for n in made]
    assert end["event"] == "end" and json.loads(end["data"])["state"] == "done"
    assert json.loads(end["data"]) == state(http, order)
    http.delete(order["links"]["self"])


def test_a_client_that_comes_again_hears_what_it_missed_only(http, workers, gate, until):
    workers(hook=gate)
    order = place(http, count=64)

    def first_of(last: str) -> str:
        with http.stream("GET", order["links"]["events"], headers={"Last-Event-ID": last}) as response:
            return next(line for line in response.iter_lines() if line.startswith("event"))

    assert first_of("") == "event: progress"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first_of, "0")
        time.sleep(0.2)
        assert not waiting.done()
        gate.open()
        assert waiting.result() == "event: end"
    assert first_of("end") == "event: end"
    http.delete(order["links"]["self"])


def test_events_say_when_an_order_is_gone(http, workers, gate, monkeypatch):
    monkeypatch.setattr("nonesuch_gateway.replies.events.POLL_S", 0.02)
    workers(hook=gate)
    order = place(http, count=64)
    with http.stream("GET", order["links"]["events"]) as response:
        http.delete(order["links"]["self"])
        assert events(response)[-1]["event"] == "gone"


def test_a_watcher_that_leaves_is_forgotten(make_gateway, workers, gate, until, monkeypatch):
    monkeypatch.setattr("nonesuch_gateway.replies.events.POLL_S", 0.02)
    workers(hook=gate)
    gateway = make_gateway()
    with httpx.Client(base_url=gateway.url) as http:
        order = place(http, count=64)
        with http.stream("GET", order["links"]["events"]) as response:
            lines = response.iter_lines()  # httpx closes the connection of a forgotten iterator
            next(lines)
            assert gateway.server.server_state.tasks
        until(lambda: not gateway.server.server_state.tasks)
        http.delete(order["links"]["self"])
