"""Large orders by the SDK against a real gateway: placed, followed, read once, cancelled."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nonesuch
from nonesuch import errors

COUNT = 200


@pytest.fixture
def client(gateway: str):
    with nonesuch.Client(gateway, retries=0) as client:
        yield client


def test_an_order_is_made_in_the_background_and_read_once(client, workers, until):
    workers()
    placed = client.place_order(COUNT, classes=["bee", 2], seed=5)
    assert (placed.state, placed.count, placed.seed, placed.results) == ("open", COUNT, 5, "unread")
    until(lambda: client.order(placed.id).state == "done")
    assert client.order(placed.id).images == COUNT
    parts = list(client.order_results(placed.id))
    whole = pa.concat_batches([part.arrow for part in parts])
    assert whole.equals(client.mint(COUNT, classes=["bee", 2], seed=5).arrow)
    for call in (client.order, client.cancel_order, lambda order_id: list(client.order_results(order_id))):
        with pytest.raises(errors.OrderNotFound, match="its results were read"):
            call(placed.id)


def test_a_loop_can_wait_for_it_too(gateway, workers):
    workers()

    async def read() -> list[int]:
        async with nonesuch.AsyncClient(gateway, retries=0) as client:
            placed = await client.place_order(COUNT)
            return [int(index) async for batch in client.order_results(placed.id) for index in batch.indices]

    assert asyncio.run(read()) == list(range(COUNT))


def test_it_can_become_a_file(client, workers, tmp_path):
    workers()
    told: list[int] = []
    placed = client.place_order(COUNT, seed=6)
    done = client.export_order(placed.id, tmp_path / "images.parquet", on_bytes=lambda done, total: told.append(done))
    assert (done.seed, done.order) == (6, placed.order)
    assert told[-1] == done.bytes == done.path.stat().st_size
    assert np.array_equal(pq.read_table(done.path)["index"].to_numpy(), np.arange(COUNT))


def test_one_that_is_cancelled_leaves_nothing(client, workers, traces):
    workers(hook=lambda ticket: None)
    placed = client.place_order(100_000)
    assert client.cancel_order(placed.id).state == "cancelled"
    with pytest.raises(errors.OrderNotFound):
        client.order(placed.id)
    assert not [key for key in traces() if b":once:" not in key]


def test_leaving_its_results_early_ends_it(client, workers, large, until, traces):
    workers(generators=(large,))
    placed = client.place_order(50_000, generator="large")
    with client.order_results(placed.id) as batches:
        assert len(next(batches)) == 64
        with pytest.raises(errors.Conflict):
            next(client.order_results(placed.id))
    until(lambda: not [key for key in traces() if b":once:" not in key])


def test_one_that_failed_says_why(client, workers, until):
    workers(hook=lambda ticket: "out of luck")
    placed = client.place_order(5)
    until(lambda: client.order(placed.id).state == "failed")
    assert "out of luck" in client.order(placed.id).reason
    with pytest.raises(errors.OrderFailed, match="out of luck"):
        list(client.order_results(placed.id))


def test_what_cannot_be_is_refused_when_it_is_placed(client, workers):
    workers()
    with pytest.raises(errors.InvalidValue, match="count"):
        client.place_order(0)
    with pytest.raises(errors.OrderNotFound, match="no order 'never'"):
        client.order("never")
