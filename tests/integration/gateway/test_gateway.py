"""What a client gets: whole Arrow streams in index order, the catalogue, and health."""

import json
import time

import httpx
import numpy as np
import pyarrow as pa
import pytest

from nonesuch.schema import class_names_of

ARROW = "application/vnd.apache.arrow.stream"


def table(response: httpx.Response) -> pa.Table:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ARROW
    return pa.ipc.open_stream(response.content).read_all()


def uneven(ticket) -> None:
    """Workers that finish in another order than they began."""
    time.sleep(0.004 * (7 * ticket.number % 5))


def test_rows_come_in_index_order_from_workers_that_finish_out_of_order(http, workers):
    workers(3, hook=uneven)
    response = http.post("/v1/batches", json={"count": 1000, "seed": 5})
    rows = table(response)
    assert rows["index"].to_pylist() == list(range(1000))
    assert rows["label"].to_pylist() == [i % 3 for i in range(1000)]
    images = rows["image"].combine_chunks().to_numpy_ndarray()
    assert images.shape == (1000, 4, 4, 1)
    assert np.array_equal(images[:, 0, 0, 0], (np.arange(1000) + 5) % 256)
    assert class_names_of(rows.schema) == ("ant", "bee", "cat")
    assert response.headers["x-nonesuch-seed"] == "5"
    assert set(rows["order"].to_pylist()) == {response.headers["x-nonesuch-order"]}


def test_the_same_request_gives_the_same_bytes_and_another_seed_gives_others(http, workers):
    workers(3, hook=uneven)
    ask = {"count": 400, "classes": ["bee", 2], "seed": 11}
    first, again = (http.post("/v1/batches", json=ask) for _ in range(2))
    other = http.post("/v1/batches", json={**ask, "seed": 12})
    assert first.content == again.content
    assert first.headers["x-nonesuch-order"] == again.headers["x-nonesuch-order"]
    assert first.headers["x-nonesuch-order"] != other.headers["x-nonesuch-order"]


def test_a_request_without_a_seed_can_be_repeated_from_its_headers(http, workers):
    workers()
    first = http.post("/v1/batches", json={"count": 10})
    seed = int(first.headers["x-nonesuch-seed"])
    assert seed != int(http.post("/v1/batches", json={"count": 10}).headers["x-nonesuch-seed"])
    assert http.post("/v1/batches", json={"count": 10, "seed": seed}).content == first.content


def test_a_quota_is_met_exactly(http, workers):
    workers()
    labels = table(http.post("/v1/batches", json={"quota": {"cat": 30, "0": 10}}))["label"].to_pylist()
    assert (labels.count(0), labels.count(1), labels.count(2)) == (10, 0, 30)


@pytest.mark.parametrize("classes", [["BEE"], ["1"], [1]])
def test_classes_go_by_name_in_any_case_or_by_number(http, workers, classes):
    workers()
    assert set(table(http.post("/v1/batches", json={"count": 4, "classes": classes}))["label"].to_pylist()) == {1}


def test_nothing_is_left_in_redis_when_a_request_is_done(http, workers, traces, until):
    workers(2)
    table(http.post("/v1/batches", json={"count": 200}))
    until(lambda: not traces())


def test_the_catalogue_is_what_the_workers_announced(http, workers):
    assert http.get("/v1/generators").json() == {"generators": []}
    workers()
    (generator,) = http.get("/v1/generators").json()["generators"]
    assert generator["id"] == "small" and generator["image_shape"] == [4, 4, 1]
    strategies = {s["name"]: s for s in http.get("/v1/strategies").json()["strategies"]}
    assert strategies["random"]["schema"]["properties"]["sigma"]["exclusiveMinimum"] == 0
    assert strategies["mined"]["needs_snapshot"] is True


def test_ready_means_that_a_worker_is_there(http, workers):
    assert http.get("/healthz").json() == {"status": "ok"}
    missing = http.get("/readyz")
    assert missing.status_code == 503 and "nonesuch worker" in missing.json()["detail"]
    workers(2)
    assert http.get("/readyz").json() == {"status": "ready", "workers": 2, "generators": ["small"]}


def test_the_openapi_document_describes_stream_and_problems(http):
    responses = http.get("/openapi.json").json()["paths"]["/v1/batches"]["post"]["responses"]
    assert ARROW in responses["200"]["content"]
    assert "application/problem+json" in responses["422"]["content"]
    assert "HTTPValidationError" not in json.dumps(responses)


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 200, False)])
def test_request_ids_are_kept_when_they_are_safe(http, given, kept):
    answered = http.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert (answered == given) is kept and answered
