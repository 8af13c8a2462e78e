"""The trainer against a real Redis, with a hand-written worker that mints images a child could tell apart."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from nonesuch.config import RedisSettings
from nonesuch.errors import (
    GeneratorNotFound,
    InvalidValue,
    NoWorkers,
    OrderFailed,
    TakeTimeout,
    Unreachable,
)
from nonesuch.host.stopping import Stopped
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.smoothed import supply
from nonesuch.tickets import Ticket, renew
from nonesuch_trainer import loop
from nonesuch_trainer.loop import Result, train
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Real
from nonesuch_trainer.sources.ordering import service_name
from tests.helpers.blobs import assert_same, blobs, keys, make_config, one_thread, working
from tests.helpers.counters import ring_stats

pytestmark = pytest.mark.usefixtures("one_threaded")


Config = Callable[..., TrainConfig]


@pytest.fixture
def config(real: Path, tmp_path: Path) -> Config:
    return partial(make_config, real, tmp_path / "out")


@pytest.fixture(scope="module")
def undisturbed(real: Path, session_redis: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """How the run of `config()` ends when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with one_thread(), working(session_redis.url), Link(RedisSettings(url=session_redis.url)) as link:
        return train(make_config(real, folder), link)


# -- what a run does -----------------------------------------------------------------------------------------------
def test_a_run_learns_from_minted_images(config: Config, link: Link, redis_url: str) -> None:
    with working(redis_url):
        result = train(config(6).model_copy(update={"batch_size": 20}), link)
    assert result.evaluation.accuracy > 0.9


def test_a_run_replaces_r_and_leaves_nothing_in_redis(undisturbed: Result, link: Link) -> None:
    assert [record.r for record in undisturbed.history] == [0.5, 0.5, 0.5, 0.0]
    assert [record.replaced for record in undisturbed.history] == [100, 100, 100, 0]
    assert [record.age for record in undisturbed.history] == [0, 0, 0, None]
    assert torch.bincount(undisturbed.dataset.labels).tolist() == [20] * 10
    assert undisturbed.ledger.statement == (
        "real information used: labelled, through generator blobs (labelled real images); "
        "judged on 300 images of fashion-mnist/test"
    )
    written = {path.name for path in undisturbed.folder.iterdir()}
    assert written == {
        "checkpoint.safetensors", "classifier.safetensors", "curves.png", "events", "images.png", "metrics.jsonl",
        "summary.json",
    }  # fmt: skip
    assert keys(link) == []


def test_resident_rows_say_how_to_mint_them_again(undisturbed: Result) -> None:
    dataset = undisturbed.dataset
    for row in (0, 57, 199):
        label, seed, index = dataset.labels[row], dataset.seeds[row], dataset.indices[row]
        again = blobs(np.array([label], np.int32), int(seed), np.array([index]))[0]
        assert np.array_equal(dataset.images[row], again)


@pytest.mark.parametrize(("replacement", "orders"), [(0.0, 1), (1.0, 3)])
def test_the_ends_of_the_scale(config: Config, link: Link, redis_url: str, replacement: float, orders: int) -> None:
    with working(redis_url) as worker:
        result = train(config(3, replacement=replacement), link)
    assert len({ticket.split(":")[0] for ticket in worker.tickets}) == orders
    assert (result.dataset.births == (2 if replacement else 0)).all()


def test_real_images_go_the_same_way_without_a_service(config: Config, real: Path) -> None:
    reference = Real(kind="real", folder=real, size=200)
    result = train(config(3).model_copy(update={"dataset": reference}))
    assert torch.bincount(result.dataset.labels).tolist() == [20] * 10
    assert [record.ordered for record in result.history] == [0, 0, 0]
    assert "training (labelled real images: 200 of the 200 images of fashion-mnist/train)" in result.ledger.statement
    assert result.ledger.direct == "labelled"


def test_the_order_of_events(
    config: Config, link: Link, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events: list[str] = []

    def tell(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def told(*args: object, **options: object) -> object:
            events.append(name)
            return function(*args, **options)

        monkeypatch.setattr(module, name, told)

    tell(supply, "publish")
    tell(supply, "place")
    tell(loop, "learn")
    results = []
    for staleness, expected in (
        (0, ["publish", "place", "learn", "publish", "place", "learn", "publish", "place", "learn", "publish"]),
        (1, ["publish", "place", "place", "learn", "publish", "place", "learn", "publish", "learn", "publish"]),
    ):
        events.clear()
        run = config(3, staleness=staleness, fresh=[{"strategy": "hsm"}]).model_copy(
            update={"out": tmp_path / str(staleness)}
        )
        with working(redis_url):
            results.append(train(run, link))
        assert events == expected
        assert [record.age for record in results[-1].history] == [staleness, staleness, None]
        fresh = results[-1].dataset.births > 0
        assert torch.equal(results[-1].dataset.snapshots[fresh], results[-1].dataset.births[fresh] - staleness)
        assert (results[-1].dataset.snapshots[~fresh] == -1).all()
    assert_same(*results, but="snapshots")  # the blobs do not care what they are aimed at


# -- disturbances --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("staleness", [0, 1])
def test_a_redis_that_is_restarted_twice_changes_nothing(config: Config, undisturbed: Result, staleness: int) -> None:
    pending = ["-0-0:4", "-2-0:3"]
    with PrivateRedis(max_memory_mb=64) as server:

        def pull_the_plug(ticket: Ticket) -> None:
            if pending and f"{ticket.order.id}:{ticket.number}".endswith(pending[0]):
                pending.pop(0)
                server.kill()
                server.start()
                time.sleep(0.3)  # for a while there is a Redis without workers

        with working(server.url, pull_the_plug) as worker, Link(RedisSettings(url=server.url)) as link:
            result = train(config(staleness=staleness), link)
            assert keys(link) == []
    assert not pending
    assert_same(result, undisturbed)
    assert len(worker.tickets) < 45  # tickets that had come were not made again, of 25


def test_a_worker_that_comes_late_is_waited_for(config: Config, link: Link, redis_url: str) -> None:
    finished: list[Result] = []
    thread = threading.Thread(target=lambda: finished.append(train(config(1), link)), daemon=True)
    thread.start()
    time.sleep(0.3)
    with working(redis_url):
        thread.join(30)
    assert finished[0].history[-1].epoch == 1


def test_killed_interrupted_and_resumed_is_as_if_nothing_had_happened(
    config: Config, undisturbed: Result, link: Link, redis_url: str
) -> None:
    run = config()
    start = (
        "from nonesuch.link.connection import Link\n"
        "from nonesuch_trainer.settings.config import TrainConfig\n"
        "from nonesuch_trainer.loop import train\n"
        f"train(TrainConfig.model_validate_json({run.model_dump_json()!r}), Link())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NONESUCH_REDIS_URL": redis_url}

    def until(process: subprocess.Popen[bytes], epochs: int) -> None:
        end = time.monotonic() + 60
        while not lines(run.folder) >= epochs:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)

    with working(redis_url, lambda ticket: time.sleep(0.02)):
        with subprocess.Popen([sys.executable, "-c", start], env=environment) as process:
            until(process, 1)
            process.kill()
        assert keys(link) != []  # a killed run could not clean up
        with subprocess.Popen([sys.executable, "-c", start], env=environment, stderr=subprocess.PIPE) as process:
            until(process, 2)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
        assert process.returncode != 0
        assert b"Stopped" in said
        assert keys(link) == []
        assert not list(run.folder.glob(".*tmp"))
        assert 2 <= lines(run.folder) < 4
        result = train(run, link)
    assert_same(result, undisturbed)
    assert [record.epoch for record in result.history] == [1, 2, 3, 4]
    assert lines(run.folder) == 4


def lines(folder: Path) -> int:
    """Epochs in the metrics file."""
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_stop_in_the_midst_of_waiting(config: Config, link: Link, redis_url: str) -> None:
    stop = threading.Event()

    def never(ticket: Ticket) -> None:
        stop.set()
        worker.ended.wait(10)

    with working(redis_url, never) as worker:
        started = time.monotonic()
        with pytest.raises(Stopped):
            train(config(), link, stop=stop)
        assert time.monotonic() - started < 5
        assert keys(link) == []


# -- too slow, too late, too few -----------------------------------------------------------------------------------
def test_a_slow_trainer_stops_the_workers(
    config: Config, link: Link, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(2, staleness=1, ring_slots=3, replacement=1.0)
    held: list[int] = []
    real_learn = loop.learn

    def learn(*args):  # type: ignore[no-untyped-def]
        before, end = -1, time.monotonic() + 5
        while len(worker.tickets) != before and time.monotonic() < end:  # until the worker has nothing to do any more
            before = len(worker.tickets)
            time.sleep(0.4)
        stats = link.run(ring_stats(link.keys, service_name(run.run, run.folder)))
        assert stats.unread + stats.free == 3
        held.append(stats.unread)
        return real_learn(*args)

    monkeypatch.setattr(loop, "learn", learn)
    with working(redis_url) as worker:
        result = train(run, link)
    assert held == [3, 0]  # of the 10 tickets of an epoch; in the last epoch none are wanted
    assert result.history[0].r == 1.0


def test_what_comes_too_late_is_skipped_and_reported(config: Config, link: Link, redis_url: str) -> None:
    def dawdle(ticket: Ticket) -> None:
        """Of the first epoch's tickets the third is not done until nobody wants it any more."""
        while ticket.order.id.endswith("-1-0") and ticket.number == 2 and link.run(renew(link.keys, ticket)):
            time.sleep(0.02)

    with working(redis_url, dawdle):
        result = train(config(3, late={"kind": "skip", "patience_s": 1.0}), link)
        assert keys(link) == []
    late, on_time, _ = result.history
    assert (late.ordered, late.replaced, late.r) == (100, 40, 0.2)
    assert on_time.r == 0.5
    assert torch.bincount(result.dataset.labels).tolist() == [20] * 10


def test_silence_ends_a_run_that_waits(config: Config, link: Link, redis_url: str) -> None:
    with (
        working(redis_url, lambda ticket: worker.ended.wait(5) and None) as worker,
        pytest.raises(
            TakeTimeout, match=r"no batch came for \d s, 0 of 10 tickets of run-[0-9a-f]+-0-0 are here, 1 workers"
        ),
    ):
        train(config(late={"kind": "wait", "patience_s": 0.6}), link)
    assert keys(link) == []


def test_an_order_that_fails_ends_the_run_with_its_reason(config: Config, link: Link, redis_url: str) -> None:
    def refuse(ticket: Ticket) -> None:
        if ticket.order.id.endswith("-2-0"):
            raise InvalidValue("out of ink")

    with working(redis_url, refuse), pytest.raises(OrderFailed, match=r"-2-0 .*'failed'.*out of ink"):
        train(config(), link)
    assert keys(link) == []


def test_nobody_there(config: Config, link: Link, redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(NoWorkers, match="nonesuch worker"):
        train(config(outage_s=0.2), link)
    with working(redis_url), pytest.raises(GeneratorNotFound, match="hosted now: blobs, twin"):
        train(config(generators=["blots"], outage_s=0.2), link)
    started = time.monotonic()
    with Link(RedisSettings(url=f"unix://{tmp_path}/none")) as nowhere, pytest.raises(Unreachable, match="NONESUCH_"):
        train(config(), nowhere)
    assert time.monotonic() - started < 2
    with pytest.raises(InvalidValue, match="give a link"):
        train(config())
