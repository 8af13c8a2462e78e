"""/metrics: what was counted, by labels that no client can make up."""

import socket
import threading
import time

import httpx
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nonesuch.labels import Balanced
from nonesuch.orders import Order, place
from nonesuch.rings import RingSpec, open_ring
from nonesuch.tickets import claim, commit

OURS = "nonesuch_gateway_"


class Scrape:
    """What /metrics says."""

    def __init__(self, http: httpx.Client) -> None:
        response = http.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.text = response.text
        self.families = list(text_string_to_metric_families(self.text))
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    @classmethod
    def settled(cls, http: httpx.Client) -> "Scrape":
        """When no other request is open: one is counted shortly after its client has the answer."""
        end = time.monotonic() + 10
        while True:
            seen = cls(http)
            if seen(f"{OURS}requests_in_flight") == 1:  # the scrape itself
                return seen
            assert time.monotonic() < end, "a request stays open"

    def __call__(self, name: str, **labels: str) -> float:
        """The value of a sample; 0 if it is not there."""
        return self._values.get((name, frozenset(labels.items())), 0.0)

    def labels(self, name: str, label: str) -> set[str]:
        """The values of one label of a metric."""
        return {dict(labels)[label] for (found, labels) in self._values if found == name}


@pytest.fixture
def http(make_gateway):
    """A client of a gateway that has counted nothing yet."""
    with httpx.Client(base_url=make_gateway().url, timeout=20) as client:
        yield client


def test_requests_are_counted_by_route_method_and_status(http, workers):
    workers()
    assert http.get("/v1/generators/small").status_code == 200
    assert http.get("/v1/generators/large").status_code == 404
    assert http.head("/healthz").status_code == 200
    seen = Scrape.settled(http)
    route = "/v1/generators/{generator_id}"
    assert seen(f"{OURS}requests_total", method="GET", route=route, status="200") == 1
    assert seen(f"{OURS}requests_total", method="GET", route=route, status="404") == 1
    assert seen(f"{OURS}requests_total", method="HEAD", route="/healthz", status="200") == 1
    for name in ("request_duration_seconds", "first_byte_seconds"):
        assert seen(f"{OURS}{name}_count", method="GET", route=route) == 2
        assert 0 < seen(f"{OURS}{name}_sum", method="GET", route=route) < 20
    assert seen(f"{OURS}response_bytes_total", route=route) > 100


def test_a_client_cannot_make_up_labels(http):
    for i in range(5):
        http.get(f"/nowhere/{i}")
        http.post(f"/v1/generators/{i}")
        http.request("PROPFIND", f"/{i}")
        http.get(f"/v1/snapshots/latest?channel=mine{i}")
    seen = Scrape.settled(http)
    assert seen(f"{OURS}requests_total", method="GET", route="other", status="404") == 5
    assert seen(f"{OURS}requests_total", method="other", route="other", status="404") == 5
    assert seen.labels(f"{OURS}requests_total", "method") == {"GET", "POST", "other"}
    assert seen.labels(f"{OURS}requests_total", "route") == {
        "other",
        "/v1/generators/{generator_id}",
        "/v1/snapshots/latest",
    }
    assert "mine" not in seen.text


def test_images_and_bytes_are_counted_by_format(http, workers):
    workers()
    sent = [http.post("/v1/batches", json={"count": n}) for n in (10, 200)]
    picture = http.post("/v1/batches?format=png", json={"count": 9})
    seen = Scrape.settled(http)
    assert seen(f"{OURS}images_total", format="arrow") == 210
    assert seen(f"{OURS}image_bytes_total", format="arrow") == sum(len(each.content) for each in sent)
    assert seen(f"{OURS}images_total", format="png") == 9
    assert seen(f"{OURS}image_bytes_total", format="png") == len(picture.content)
    assert seen(f"{OURS}orders_total", priority="interactive", outcome="done") == 3
    assert seen(f"{OURS}open_streams") == 0


def test_an_answer_that_failed_sent_no_images(http, workers):
    workers(hook=lambda ticket: "out of luck" if ticket.number == 3 else None)
    assert http.post("/v1/batches", json={"count": 64 * 5}).status_code == 502
    seen = Scrape.settled(http)
    assert seen(f"{OURS}orders_total", priority="interactive", outcome="failed") == 1
    assert not seen.labels(f"{OURS}images_total", "format")


def test_orders_are_counted_by_how_they_ended(http, workers, until):
    def hook(ticket):
        if ticket.order.count == 2:
            return "out of luck"
        time.sleep(0.3 if ticket.order.count == 3 else 0.02)
        return None

    workers(hook=hook)
    assert http.post("/v1/batches", json={"count": 1}).status_code == 200
    assert http.post("/v1/batches", json={"count": 2}).status_code == 502
    assert http.post("/v1/batches", json={"count": 3, "deadline_s": 0.1}).status_code == 504
    with http.stream("POST", "/v1/batches?format=webdataset", json={"count": 64 * 1000}) as response:
        chunks = response.iter_raw()  # httpx closes the connection of a forgotten iterator
        assert Scrape(http)(f"{OURS}open_streams") == 1
        del chunks

    def ended(outcome: str, priority: str = "interactive") -> float:
        return Scrape.settled(http)(f"{OURS}orders_total", priority=priority, outcome=outcome)

    until(lambda: ended("cancelled") == 1)
    assert [ended("done"), ended("failed"), ended("expired")] == [1, 1, 1]
    assert Scrape.settled(http)(f"{OURS}requests_aborted_total", route="/v1/batches") == 1

    fetched, dropped = (http.post("/v1/orders", json={"count": 64}).json()["links"] for _ in range(2))
    assert http.get(fetched["results"]).status_code == 200
    assert http.delete(dropped["self"]).status_code == 200
    assert ended("done", "bulk") + ended("cancelled", "bulk") == 2


def test_what_redis_knows_of_the_service(http, workers, link, small, large):
    (both, _) = workers(1, generators=(small, large)) + workers(1)
    link.run(open_ring(link.keys, RingSpec(name="run-1", slots=3, slot_bytes=65_536)))
    seen = Scrape.settled(http)
    assert seen("nonesuch_redis_up") == 1 and seen("nonesuch_redis_memory_used_bytes") > 0
    assert seen("nonesuch_workers") == 2
    assert seen("nonesuch_generator_workers", generator="small") == 2
    assert seen("nonesuch_generator_workers", generator="large") == 1
    assert both.name in seen.labels("nonesuch_worker_images_total", "worker")
    assert seen("nonesuch_rings", kind="trainer") == 1 and seen("nonesuch_ring_slots", kind="trainer") == 3
    assert seen("nonesuch_tickets", state="waiting") == 0
    assert "run-1" not in seen.text


def test_rings_of_requests_are_counted_together(http, workers):
    (worker,) = workers()
    worker.stop()
    orders = [http.post("/v1/orders", json={"count": 64 * 4}).json() for _ in range(3)]
    seen = Scrape.settled(http)
    assert seen("nonesuch_open_orders", priority="bulk") == 3
    assert seen("nonesuch_tickets", state="waiting") == seen("nonesuch_claimable_tickets") == 12
    assert seen("nonesuch_generator_open_orders", generator="small") == 3
    assert seen("nonesuch_generator_tickets", generator="small") == 12
    assert seen("nonesuch_rings", kind="order") == 3 and seen("nonesuch_rings", kind="reply") == 0
    assert seen("nonesuch_ring_bytes", kind="order") > 0
    assert not any(order["id"] in seen.text for order in orders)
    for order in orders:
        http.delete(order["links"]["self"])


def test_what_is_asked_of_each_generator(http, workers, link, small, large):
    workers(generators=(small, large))[0].stop()
    link.run(open_ring(link.keys, RingSpec(name="ring", slots=4, slot_bytes=2**18)))
    common = {"labels": Balanced(classes=(0, 1, 2)), "sink": "ring", "ticket_size": 2, "count": 8}
    for name, generator in (("one", "small"), ("two", "small"), ("three", "large")):
        link.run(place(link.keys, Order.model_validate({**common, "id": name, "generators": (generator,)})))
    ticket = link.run(claim(link.keys, ["small"]))
    assert link.run(commit(link.keys, ticket, b"batch", 2)) == "committed"
    found = http.get("/v1/stats").json()["generators"]
    assert found == [
        {"id": "large", "workers": 1, "orders": 1, "tickets": 4},
        {"id": "small", "workers": 1, "orders": 2, "tickets": 7},
    ]
    seen = Scrape.settled(http)
    for each in found:
        assert seen("nonesuch_generator_tickets", generator=each["id"]) == each["tickets"]


def test_without_redis_the_rest_is_there(make_gateway):
    with httpx.Client(base_url=make_gateway(url="redis://127.0.0.1:1/0").url) as http:
        http.get("/healthz")
        seen = Scrape.settled(http)
    assert seen("nonesuch_redis_up") == 0 and "nonesuch_redis_up 0.0" in seen.text
    assert seen(f"{OURS}requests_total", method="GET", route="/healthz", status="200") == 1
    assert "nonesuch_workers" not in seen.text


def test_a_redis_that_does_not_answer_does_not_hold_up_the_scrape(make_gateway, monkeypatch):
    monkeypatch.setattr("nonesuch_gateway.telemetry.scrape.TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {"redis": {"url": f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "timeout_s": 30}}
        with httpx.Client(base_url=make_gateway(**settings).url, timeout=10) as http:
            assert Scrape.settled(http)("nonesuch_redis_up") == 0


def test_each_application_has_counters_of_its_own(make_gateway):
    one, other = make_gateway(), make_gateway()
    httpx.get(f"{one.url}/v1/strategies")
    counted = []
    for each in (one, other):
        with httpx.Client(base_url=each.url) as http:
            counted.append(
                Scrape.settled(http)(f"{OURS}requests_total", method="GET", route="/v1/strategies", status="200")
            )
    assert counted == [1, 0]


def test_names_follow_the_conventions(http, workers):
    workers()
    http.post("/v1/batches", json={"count": 1})
    families = Scrape.settled(http).families
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.documentation
        assert family.name.startswith(("nonesuch_", "process_"))
        assert not any(sample.name.endswith("_created") for sample in family.samples)
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    assert any(family.name == "nonesuch_gateway_build_info" for family in families)
    assert any(family.name == "process_resident_memory_bytes" for family in families)


def test_many_requests_at_once_are_all_counted(http, workers):
    workers()

    def ask() -> None:
        for _ in range(10):
            response = http.post("/v1/batches", json={"count": 8})
            assert pa.ipc.open_stream(response.content).read_all().num_rows == 8

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = Scrape.settled(http)
    assert seen(f"{OURS}images_total", format="arrow") == 320
    assert seen(f"{OURS}requests_total", method="POST", route="/v1/batches", status="200") == 40
