"""The SDK against a real gateway: what users call, both ways of calling it, and what is left behind."""

import asyncio
import json
import threading
import tracemalloc
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import torch

import nonesuch
from nonesuch import errors
from nonesuch.classifiers.file import write_classifier
from nonesuch.classifiers.published import CLASSIFIER
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import dump
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.client.calls.exporting import WRITTEN
from nonesuch.link import Link
from nonesuch.local.service import free_port
from nonesuch.schema import ending_of
from nonesuch.snapshots import SnapshotHeader, kept_versions
from nonesuch_gateway.access.tokens import editing, make_token
from nonesuch_gateway.formats import FORMATS

LARGE_PAYLOAD = safetensors.numpy.save({"weight": np.zeros(5_000_000, np.float32)})
SMALL_NET = ClassifierSpec(architecture="resnet18", args={"width": 2})


@pytest.fixture(params=["blocking", "async"])
def call(request: pytest.FixtureRequest, gateway: str, redis_url: str) -> Any:
    """`call(lambda client: client.mint(3))`, with either client."""

    async def run_async(what: Any) -> Any:
        async with nonesuch.AsyncClient(gateway, retries=0) as client:
            came = what(client)
            return [batch async for batch in came] if hasattr(came, "__aiter__") else await came

    def run(what: Any) -> Any:
        if request.param == "async":
            return asyncio.run(run_async(what))
        with nonesuch.Client(gateway, retries=0) as client:
            came = what(client)
            return list(came) if hasattr(came, "__next__") else came

    return run


@pytest.fixture
def client(gateway: str, redis_url: str) -> Any:
    with nonesuch.Client(gateway, retries=2, sleep=lambda seconds: None) as client:
        yield client


def test_what_is_minted_is_what_was_asked_for_and_can_be_had_again(call, workers):
    workers(2)
    batch = call(lambda client: client.mint(500, classes=["bee", 2], seed=5))
    assert np.array_equal(batch.images[:, 0, 0, 0], (np.arange(500) + 5) % 256)
    assert set(batch.label_names) == {"bee", "cat"} and batch.seed == 5
    assert call(lambda client: client.again(batch.recipe)).arrow.equals(batch.arrow)
    streamed = call(lambda client: client.stream(500, classes=["bee", 2], seed=5))
    assert pa.concat_batches([part.arrow for part in streamed]).equals(batch.arrow)
    assert {part.recipe for part in streamed} == {batch.recipe}


def test_a_quota_needs_no_count_and_a_random_seed_is_told(call, workers):
    workers()
    batch = call(lambda client: client.mint(quota={"ant": 3, "cat": 9}))
    assert np.bincount(batch.labels).tolist() == [3, 0, 9]
    assert call(lambda client: client.mint(quota={"ant": 3, "cat": 9}, seed=batch.seed)).arrow.equals(batch.arrow)


def test_a_recipe_that_is_too_long_for_a_url_is_minted_all_the_same(client, workers):
    workers()
    client.publish(small_net(), architecture="resnet18", args={"width": 2})
    text = np.random.default_rng(0).bytes(8000).hex()
    batch = client.mint(3, strategy="mined", snapshot="latest", params={"text": text})
    assert len(batch) == 3 and batch.recipe is None


def test_what_there_is(call, workers, small):
    assert call(lambda client: client.generators()) == ()
    workers()
    assert call(lambda client: client.generators()) == (small,)
    assert call(lambda client: client.generator("small")) == small
    assert [strategy.name for strategy in call(lambda client: client.strategies())] == ["choosy", "mined", "random"]
    assert [worker.generators for worker in call(lambda client: client.stats()).workers] == [("small",)]


@pytest.mark.parametrize(
    ("asked", "kind", "words", "field"),
    [
        ({"classes": ["bees"]}, errors.InvalidOrder, "did you mean bee", "classes"),
        ({"count": -1}, errors.InvalidValue, "greater than or equal to 1", "count"),
        ({"sigma": -1.0}, errors.InvalidOrder, "sigma -1.0", "params.sigma"),
        ({"steps": 3}, errors.InvalidOrder, "'steps' was unexpected", "params"),
        ({"generator": "../x"}, errors.InvalidValue, "", "generator"),
        ({"generator": "none"}, errors.GeneratorNotFound, "hosted now: small", None),
        ({"strategy": "mined", "snapshot": "latest"}, errors.SnapshotNotFound, "publish one first", None),
    ],
)
def test_errors_are_those_that_the_gateway_raised(call, workers, asked, kind, words, field):
    workers()
    with pytest.raises(kind) as raised:
        call(lambda client: client.mint(**{"count": 3, **asked}))
    assert words in str(raised.value) and type(raised.value) is kind
    assert getattr(raised.value, "field", None) == field


def test_errors_of_recipes_workers_and_addresses(call):
    with pytest.raises(errors.RecipeNotFound):
        call(lambda client: client.again("r3.nothing"))
    with pytest.raises(errors.NoWorkers):
        call(lambda client: client.mint(3))
    with (
        nonesuch.Client(f"http://127.0.0.1:{free_port()}", retries=0) as nobodys,
        pytest.raises(errors.Unreachable, match="Is the gateway running"),
    ):
        nobodys.stats()


def test_every_format_has_an_ending_and_is_written_as_the_gateway_sends_it(client, workers, gateway, tmp_path):
    workers()
    assert set(FORMATS) == WRITTEN
    told = []
    for form in WRITTEN:
        path = tmp_path / f"images{ending_of(form)}"
        done = client.export(path, 20, seed=3, on_bytes=lambda *now: told.append(now))
        same = httpx.post(f"{gateway}/v1/batches?format={form}", json={"count": 20, "seed": 3})
        assert path.read_bytes() == same.content and done.bytes == len(same.content)
        assert (done.seed, done.order) == (3, same.headers["x-nonesuch-order"])
        assert told[-1] == (done.bytes, done.bytes)
    with pytest.raises(errors.NotAcceptable, match="there is no format 'gif'"):
        client.export(tmp_path / "x", 3, format="gif")


@pytest.fixture
def orders(traces: Any) -> Any:
    """`orders()`: what is in Redis of orders and their rings; what is kept for an Idempotency-Key is none of them."""
    return lambda: [key for key in traces() if b":once:" not in key]


def test_leaving_a_stream_early_cancels_its_order(client, workers, large, orders, until):
    (worker,) = workers(generators=(large,))
    with client.stream(50_000, generator="large") as stream:
        assert len(next(stream)) == 64
        assert orders()
    until(lambda: not orders())
    assert len(worker.committed) < 40
    for batch in client.stream(50_000, generator="large"):
        assert len(batch) == 64
        break
    until(lambda: not orders())


def test_leaving_an_async_stream_early_cancels_its_order(gateway, workers, large, orders, until):
    workers(generators=(large,))

    async def leave() -> None:
        async with nonesuch.AsyncClient(gateway) as client, client.stream(50_000, generator="large") as stream:
            assert len(await anext(stream)) == 64
        async with nonesuch.AsyncClient(gateway) as client:
            minting = asyncio.create_task(client.mint(50_000, generator="large"))
            await asyncio.sleep(0.2)
            minting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await minting

    asyncio.run(leave())
    until(lambda: not orders())


def test_an_order_that_fails_midway_is_made_again_and_no_image_comes_twice(client, workers, large):
    failed = threading.Event()

    def once(ticket: Any) -> str | None:
        if ticket.number == 8 and not failed.is_set():
            failed.set()
            return "out of memory"
        return None

    workers(generators=(large,), hook=once)
    indices = [batch.indices for batch in client.stream(1000, generator="large", seed=1)]
    assert failed.is_set()
    assert np.concatenate(indices).tolist() == list(range(1000))


def test_a_stream_takes_memory_for_a_few_batches_only(client, workers, large):
    workers(generators=(large,))
    tracemalloc.start()
    try:
        rows = 0
        for batch in client.stream(1920, generator="large"):
            rows += len(batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 1920
    # All of it would be 90 MiB. The gateway and the worker are threads of this process and hold some of the peak.
    assert peak < 45 * 2**20


def test_many_requests_at_a_time_share_a_client(gateway, redis_url, workers):
    workers(2)

    async def mint() -> list[nonesuch.Batch]:
        async with nonesuch.AsyncClient(gateway) as client:
            return await asyncio.gather(*(client.mint(30, seed=seed) for seed in range(20)))

    assert [batch.seed for batch in asyncio.run(mint())] == list(range(20))


def described() -> SnapshotHeader:
    return SnapshotHeader(
        channel="run", version=4, architecture="resnet18", args={"width": 2}, image_shape=(4, 4, 1), classes=3,
        mean=(0.5,), std=(0.5,), epoch=1, step=2, sha256="0" * 64,
    )  # fmt: skip


def small_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(SMALL_NET, in_channels=1, classes=3, image_size=4).eval()


def test_a_network_is_published_and_comes_back(call, workers, link):
    workers()
    model = small_net()
    names = {"architecture": "resnet18", "args": {"width": 2}, "channel": "mine"}
    first = call(lambda client: client.publish(model, mean=0.25, std=[0.5], epoch=3, **names))
    assert (first.version, first.epoch, first.mean, first.class_names) == (0, 3, (0.25,), ("ant", "bee", "cat"))
    second = call(lambda client: client.publish(model.state_dict(), step=9, **names))
    assert second.version == 1
    assert call(lambda client: client.snapshots("mine")) == (first, second)
    fetched = call(lambda client: client.latest_snapshot("mine"))
    assert fetched.header == second
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(fetched.load()(x), model(x))
    with pytest.raises(errors.Conflict, match="not above the latest, 1"):
        call(lambda client: client.publish(model, version=0, epoch=4, **names))
    assert link.run(kept_versions(link.keys, "mine")) == (0, 1)


def test_a_file_is_published_as_it_is(client, redis_url, tmp_path):
    header = described()
    model = small_net()
    write_classifier(tmp_path / CLASSIFIER, header, model)
    for version, path in enumerate((tmp_path, tmp_path / CLASSIFIER, str(tmp_path))):
        assert client.publish(path, channel="teacher").version == version
    assert client.publish_payload(header, dump(model)).version == 4
    assert client.publish_payload(header, dump(model), version=None).version == 5
    x = torch.randn(1, 1, 4, 4)
    for channel in ("teacher", "run"):
        assert torch.equal(client.latest_snapshot(channel).load()(x), model(x))
    with pytest.raises(errors.NotFound, match="there is no classifier file"):
        client.publish(tmp_path / "nothing")
    (tmp_path / "bare").write_bytes(dump(model))
    with pytest.raises(errors.InvalidSnapshot, match="does not say which classifier it is"):
        client.publish(tmp_path / "bare")
    with pytest.raises(errors.SnapshotNotFound, match="publish one first"):
        client.latest_snapshot("nobody")


def test_publishers_of_one_channel_take_turns(gateway, redis_url, link: Link, tmp_path):
    header = described()
    payload = dump(small_net())

    async def publish() -> list[SnapshotHeader]:
        async with nonesuch.AsyncClient(gateway) as client:
            headers = [header.model_copy(update={"step": step}) for step in range(3)]
            return await asyncio.gather(*(client.publish_payload(each, payload, version=None) for each in headers))

    published = asyncio.run(publish())
    assert sorted(each.version for each in published) == [0, 1, 2]
    assert {each.step for each in published} == {0, 1, 2}


def test_a_network_is_held_against_its_architecture_before_it_is_sent(client, workers, large):
    workers()
    model = small_net()
    with pytest.raises(errors.InvalidValue, match=r"none of resnet18, resnet50 with default arguments.*name its archi"):
        client.publish(model)
    with pytest.raises(errors.InvalidSnapshot, match=r"the network is no resnet18 \{'width': 3\}: .*conv1.weight is"):
        client.publish(model, architecture="resnet18", args={"width": 3})
    broken = {name: tensor / 0 if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    with pytest.raises(errors.InvalidSnapshot, match="not finite"):
        client.publish(broken, architecture="resnet18", args={"width": 2})
    workers(generators=(large,))
    with pytest.raises(errors.InvalidValue, match="name the one whose images the network is for, of large, small"):
        client.publish(model, architecture="resnet18", args={"width": 2})
    named = {"architecture": "resnet18", "args": {"width": 2}, "generator": "small"}
    assert client.publish(model, **named).image_shape == (4, 4, 1)
    assert json.loads(client.snapshots()[0].model_dump_json())["args"] == {"width": 2}


def test_a_registered_network_with_default_arguments_is_recognised(client, workers):
    workers()
    model = build(ClassifierSpec(architecture="resnet18"), in_channels=1, classes=3, image_size=4)
    published = client.publish(model)
    assert (published.architecture, published.args) == ("resnet18", {})


def test_a_token_opens_what_it_is_for(make_gateway, workers, tmp_path):
    workers()
    path = tmp_path / "tokens.json"
    made, text = make_token("a client", ("mint",), requests_per_minute=2)
    with editing(path) as tokens:
        tokens[made.id] = made
    url = make_gateway(tokens=path).url
    with nonesuch.Client(url) as stranger, pytest.raises(errors.Unauthorised):
        stranger.mint(3)
    with nonesuch.Client(url, text, retries=0) as client:
        with pytest.raises(errors.Forbidden, match="snapshot"):
            client.publish_payload(described(), LARGE_PAYLOAD)
        assert [len(client.mint(3)) for _ in range(2)] == [3, 3]
        with pytest.raises(errors.RateLimited) as raised:
            client.mint(3)
    assert raised.value.retry_after_s is not None and raised.value.retry_after_s > 0


def test_a_refusal_is_told_though_the_gateway_does_not_read_the_body(make_gateway, redis_url):
    with (
        nonesuch.Client(make_gateway(max_snapshot_bytes=1024).url, retries=0) as client,
        pytest.raises(errors.NonesuchError, match="and 1024 are allowed"),
    ):
        client.publish_payload(described(), LARGE_PAYLOAD)
