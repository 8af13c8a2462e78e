"""What a client gets: whole Arrow streams in index order, the catalogue, and health."""

import json
import time
from hashlib import sha256

import httpx
import numpy as np
import pyarrow as pa
import pytest

from nonesuch import snapshots
from nonesuch.effects import Op
from nonesuch.link import Call
from nonesuch.offers import Counted
from nonesuch.orders import SnapshotRef
from nonesuch.schema import class_names_of
from nonesuch.snapshots import SnapshotHeader

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


def publish(link, channel: str, weights: bytes) -> SnapshotHeader:
    header = SnapshotHeader(
        channel=channel, version=0, architecture="resnet18", image_shape=(4, 4, 1), classes=3,
        class_names=("ant", "bee", "cat"), mean=(0.5,), std=(0.5,), epoch=0, step=0, sha256=sha256(weights).hexdigest(),
    )  # fmt: skip
    link.run(snapshots.publish(link.keys, header, weights))
    return header


def test_a_teacher_is_fixed_when_the_request_comes_and_its_weights_are_part_of_the_recipe(http, workers, link):
    (worker,) = workers()
    named = []
    worker.hook = lambda ticket: named.append(ticket.order.teacher)
    ask = {"count": 5, "strategy": "choosy", "seed": 1, "teacher": {"channel": "teacher"}}
    publish(link, "teacher", b"one")
    first = http.post("/v1/batches", json=ask)
    assert first.status_code == 200, first.text
    assert named == [SnapshotRef(channel="teacher", version=0)]
    link.run(snapshots.drop_channel(link.keys, "teacher"))
    publish(link, "teacher", b"two")
    second = http.post("/v1/batches", json=ask)
    assert first.headers["x-nonesuch-order"] != second.headers["x-nonesuch-order"]


def test_a_teacher_of_other_images_is_refused_before_the_first_byte(http, workers, link, traces, until):
    workers()
    foreign = publish(link, "teacher", b"one").model_copy(update={"version": 1, "image_shape": (8, 8, 1)})
    link.run(snapshots.publish(link.keys, foreign, b"one"))
    ask = {"count": 5, "strategy": "choosy", "teacher": {"channel": "teacher"}}
    refused = http.post("/v1/batches", json=ask)
    assert refused.status_code == 422, refused.text
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "#/teacher" and "takes images of (8, 8, 1)" in error["detail"]
    until(lambda: not [key for key in traces() if b":snapshots:" not in key and not key.endswith(b":channels")])


def test_several_generators_for_a_strategy_that_mixes(http, workers, small, link):
    (worker,) = workers(generators=(small, small.model_copy(update={"id": "twin"})))
    named = []
    worker.hook = lambda ticket: named.append(ticket.order.generators)
    publish(link, "teacher", b"one")
    ask = {"count": 5, "strategy": "choosy", "teacher": {"channel": "teacher"}, "generator": ["small", "twin"]}
    assert http.post("/v1/batches", json=ask).status_code == 200
    assert named == [("small", "twin")]


def test_what_could_not_be_filled_is_left_out(http, workers, link):
    publish(link, "teacher", b"one")
    workers(cut=lambda ticket, rows: 0 if ticket.number == 1 else rows - 4)
    rows = table(http.post("/v1/batches", json={"count": 192, "strategy": "choosy", "teacher": {"channel": "teacher"}}))
    assert rows["index"].to_pylist() == [*range(60), *range(128, 188)]


def test_what_filters_keep_and_reject_can_be_asked_for(http, workers):
    assert http.get("/v1/acceptance").json() == {"strategies": []}
    one = Counted(strategy="choosy", generators=("small",), counters={"tried:1": 4, "wrong_label:1": 3})
    workers(2, tallies=(one,))
    (counted,) = http.get("/v1/acceptance").json()["strategies"]
    assert (counted["strategy"], counted["generators"], counted["acceptance"]) == ("choosy", ["small"], 0.25)
    bee = {"class_name": "bee", "tried": 8, "kept": 2, "wrong_label": 6, "below_threshold": 0, "short": 0}
    assert counted["classes"] == [bee]


def test_ready_means_that_a_worker_is_there(http, workers):
    assert http.get("/healthz").json() == {"status": "ok"}
    missing = http.get("/readyz")
    assert missing.status_code == 503 and "nonesuch worker" in missing.json()["detail"]
    workers(2)
    assert http.get("/readyz").json() == {"status": "ready", "workers": 2}


def test_the_openapi_document_describes_stream_and_problems(http):
    responses = http.get("/openapi.json").json()["paths"]["/v1/batches"]["post"]["responses"]
    assert ARROW in responses["200"]["content"]
    assert "application/problem+json" in responses["422"]["content"]
    assert "HTTPValidationError" not in json.dumps(responses)


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 200, False)])
def test_request_ids_are_kept_when_they_are_safe(http, given, kept):
    answered = http.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert (answered == given) is kept and answered


def test_a_request_reads_the_catalogue_once(http, workers, link):
    def reads() -> Op[int]:
        stats = yield Call("INFO", "commandstats")
        return int(stats["cmdstat_mget"]["calls"])

    workers()
    http.post("/v1/batches", json={"count": 5})
    before = link.run(reads())
    again = http.post("/v1/batches", json={"count": 5})
    assert link.run(reads()) == before + 1
    http.get(again.headers["content-location"])
    assert link.run(reads()) == before + 2


def test_readiness_does_not_read_what_workers_offer(http, workers, link):
    workers(2)

    def spoil() -> Op[None]:
        yield Call("SET", link.keys.worker("w9"), "what nobody could read")
        yield Call("SADD", link.keys.workers, "w9", "gone")

    link.run(spoil())
    assert http.get("/readyz").json() == {"status": "ready", "workers": 3}
