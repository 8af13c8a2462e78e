"""The trainer against a real Redis, with a hand-written worker that mints images a child could tell apart."""

import gzip
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nonesuch.catalog import GeneratorInfo, StrategyInfo, WorkerInfo, announce
from nonesuch.config import RedisSettings
from nonesuch.errors import (
    GeneratorNotFound,
    InvalidValue,
    NoWorkers,
    OrderFailed,
    ServiceError,
    TakeTimeout,
    Unreachable,
)
from nonesuch.link import Call, Link, Op
from nonesuch.private_redis import PrivateRedis
from nonesuch.realdata import FASHION_MNIST_CLASSES
from nonesuch.rings import ring_stats
from nonesuch.schema import Rows, make_batch, write_batch
from nonesuch.snapshots import fetch
from nonesuch.tickets import Ticket, claim, commit, fail_order, give_back, renew, sweep, wait_for_bell
from nonesuch_trainer import loop, supply
from nonesuch_trainer.config import Real, TrainConfig
from nonesuch_trainer.loop import Result, train
from nonesuch_trainer.ordering import service_name
from nonesuch_trainer.stopping import Stopped

INFO = GeneratorInfo(
    id="blobs",
    family="fake",
    sha256="0" * 64,
    image_shape=(28, 28, 1),
    class_names=FASHION_MNIST_CLASSES,
    z_dim=2,
)
WORKER = WorkerInfo(
    id="w",
    host="here",
    pid=1,
    device="cpu",
    started=0.0,
    generators=(INFO,),
    strategies=(StrategyInfo(name="random", schema={}), StrategyInfo(name="aimed", schema={}, needs_snapshot=True)),
)


def blobs(labels: NDArray[np.int32], seed: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, 28, 28, 1): a bright square at a place for each class, in noise that is a function of seed and index."""
    noise = [np.random.Generator(np.random.Philox(key=[seed, i])).integers(0, 90, (28, 28, 1)) for i in indices]
    images = np.array(noise, np.uint8).reshape(-1, 28, 28, 1)
    for image, label in zip(images, labels, strict=True):
        y, x = 2 + 9 * (label // 4), 1 + 7 * (label % 4)
        image[y : y + 5, x : x + 5] += 150
    return images


class Worker(threading.Thread):
    """Claims tickets and commits blobs until it is stopped; waits for a Redis that is away.

    `before` is told each ticket before it is minted: it may block, raise, or do mischief.
    """

    def __init__(self, url: str, before: Callable[[Ticket], None] = lambda ticket: None) -> None:
        super().__init__(daemon=True)
        self.tickets: list[str] = []
        self.ended = threading.Event()
        self._link = Link(RedisSettings(url=url))
        self._before = before

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._link.run(announce(self._link.keys, WORKER))
                self._link.run(sweep(self._link.keys))
                self._work()
            except ServiceError:
                self.ended.wait(0.02)
        self._link.close()

    def _work(self) -> None:
        ticket = self._link.run(claim(self._link.keys, [INFO.id]))
        if ticket is None:
            self._link.run(wait_for_bell(self._link.keys, timeout_s=0.1))
            return
        try:
            self._before(ticket)
        except InvalidValue as error:
            self._link.run(fail_order(self._link.keys, ticket, str(error)))
            return
        if self.ended.is_set():
            self._link.run(give_back(self._link.keys, ticket))
            return
        order = ticket.order
        version = None
        if order.snapshot is not None:
            assert isinstance(order.snapshot.version, int)
            version = order.snapshot.version
            self._link.run(fetch(self._link.keys, order.snapshot.channel, version))
        labels = order.labels.of(ticket.indices)
        images = blobs(labels, order.seed, ticket.indices)
        rows = Rows(images, labels, ticket.indices, np.zeros(len(labels), np.int32), sigma=1.0, snapshot=version)
        batch = make_batch(rows, order=order.id, seed=order.seed, strategy=order.strategy, generators=[INFO])
        self.tickets.append(f"{order.id}:{ticket.number}")
        self._link.run(commit(self._link.keys, ticket, write_batch(batch), len(labels)))


@contextmanager
def working(url: str, before: Callable[[Ticket], None] = lambda ticket: None) -> Iterator[Worker]:
    worker = Worker(url, before)
    worker.start()
    try:
        yield worker
    finally:
        worker.ended.set()
        worker.join(10)
        assert not worker.is_alive()


@contextmanager
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads, and networks this small only wait for each other's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four files of Fashion-MNIST, of blobs: 200 training, 5,000 validation and 300 test images."""
    folder = tmp_path_factory.mktemp("real")
    for name, count in (("train", 5200), ("t10k", 300)):
        indices = np.arange(count)
        labels = (indices % 10).astype(np.uint8)
        for kind, array in (
            ("images-idx3", blobs(labels.astype(np.int32), 7, indices)[..., 0]),
            ("labels-idx1", labels),
        ):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    return folder


def make_config(real: Path, out: Path, epochs: int = 4, **dataset: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "run": "run",
            "epochs": epochs,
            "batch_size": 40,
            "classifier": {"architecture": "resnet18", "args": {"width": 2}},
            "dataset": {"kind": "minted", "generators": ["blobs"], "size": 200, "ticket_size": 20, **dataset},
            "evaluate": {"folder": str(real), "every": 4},
            "out": str(out),
        }
    )


Config = Callable[..., TrainConfig]


@pytest.fixture
def config(real: Path, tmp_path: Path) -> Config:
    return partial(make_config, real, tmp_path / "out")


def keys(link: Link) -> list[str]:
    """What is in Redis, less what belongs to the workers: their heartbeats and the bell that they wait for."""

    def scan() -> Op[list[bytes]]:
        found: list[bytes] = yield Call("KEYS", link.keys.pattern)
        return found

    return [k for k in sorted(map(bytes.decode, link.run(scan()))) if ":worker" not in k and not k.endswith(":bell")]


def assert_same(a: Result, b: Result) -> None:
    """The same weights and the same resident dataset, bit for bit."""
    for name, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[name]), name
    for name, tensor in vars(a.dataset).items():
        assert torch.equal(tensor, getattr(b.dataset, name)), name


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
    assert "classifier: none (generator blobs was trained on labelled" in undisturbed.provenance.statement
    written = {path.name for path in undisturbed.folder.iterdir()}
    assert written == {
        "checkpoint.safetensors", "curves.png", "events", "images.png", "metrics.jsonl", "summary.json",
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
    assert "classifier: labelled (200 of the 200 images of fashion-mnist/train)" in result.provenance.statement


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
        run = config(3, staleness=staleness, fresh=[{"strategy": "aimed"}]).model_copy(
            update={"out": tmp_path / str(staleness)}
        )
        with working(redis_url):
            results.append(train(run, link))
        assert events == expected
        assert [record.age for record in results[-1].history] == [staleness, staleness, None]
    assert_same(*results)  # the blobs do not care what they are aimed at


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
        "from nonesuch.link import Link\n"
        "from nonesuch_trainer.config import TrainConfig\n"
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
        stats = link.run(ring_stats(link.keys, service_name(run)))
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
    with working(redis_url), pytest.raises(GeneratorNotFound, match="hosted now: blobs"):
        train(config(generators=["blots"], outage_s=0.2), link)
    started = time.monotonic()
    with Link(RedisSettings(url=f"unix://{tmp_path}/none")) as nowhere, pytest.raises(Unreachable, match="NONESUCH_"):
        train(config(), nowhere)
    assert time.monotonic() - started < 2
    with pytest.raises(InvalidValue, match="give a link"):
        train(config())
