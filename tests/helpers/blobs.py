"""What the trainer's tests share: a hand-written worker that mints images a child could tell apart, real ones of the
same kind, and the config of a run that takes a second."""

import gzip
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nonesuch.catalog import announce
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import InvalidValue, ServiceError, SnapshotNotFound
from nonesuch.link import Call, Link
from nonesuch.offers import GeneratorInfo, StrategyInfo, WorkerInfo
from nonesuch.orders import Order
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES
from nonesuch.schema import Rows, make_batch, write_batch
from nonesuch.snapshots import fetch
from nonesuch.tally import NOTHING, Tally, count
from nonesuch.tickets import Ticket, claim, commit, fail_order, give_back, sweep, wait_for_bell
from nonesuch_trainer.loop import Result
from nonesuch_trainer.settings.config import TrainConfig

INFO = GeneratorInfo(
    id="blobs",
    family="fake",
    sha256="0" * 64,
    image_shape=(28, 28, 1),
    class_names=FASHION_MNIST_CLASSES,
    z_dim=2,
)
TWIN = INFO.model_copy(update={"id": "twin", "sha256": "1" * 64})
SCHEMA = {
    "type": "object",
    "properties": {"sigma": {"type": "number"}, "soft_labels": {"type": "boolean", "needs": "teacher"}},
    "additionalProperties": False,
}
CHOOSY = {
    "type": "object",
    "properties": {**SCHEMA["properties"], "never": {"type": "array"}, "steps": {"type": "integer"}},  # type: ignore[dict-item]
    "additionalProperties": False,
}
WORKER = WorkerInfo(
    id="w",
    host="here",
    pid=1,
    device="cpu",
    started=0.0,
    generators=(INFO, TWIN),
    strategies=(
        StrategyInfo(name="random", schema=SCHEMA),
        StrategyInfo(name="mixture", schema=SCHEMA, mixes=True),
        StrategyInfo(name="hsm", schema=CHOOSY, needs_snapshot=True, mixes=True, rejects=True),
        StrategyInfo(name="filtered", schema=CHOOSY, needs_teacher=True, rejects=True),
    ),
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

    Whatever the strategy, an image is that of its seed and index. Labels in the parameter `never` cannot be made: three
    attempts are tallied for each, and one for every other image. Of soft labels the right one has 0.91.

    `before` is told each ticket before it is minted: it may block, raise, or do mischief.
    """

    def __init__(self, url: str, before: Callable[[Ticket], None] = lambda ticket: None) -> None:
        super().__init__(daemon=True)
        self.tickets: list[str] = []
        self.orders: dict[str, Order] = {}
        self.ended = threading.Event()
        self._link = Link(RedisSettings(url=url))
        self._before = before

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._link.run(announce(self._link.keys, WORKER))
                self._link.run(sweep(self._link.keys))
                self._work()
            except (ServiceError, SnapshotNotFound):  # a Redis that was restarted has forgotten what was claimed
                self.ended.wait(0.02)
        self._link.close()

    def _work(self) -> None:
        ticket = self._link.run(claim(self._link.keys, [INFO.id, TWIN.id]))
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
        for ref in (order.snapshot, order.teacher):
            if ref is not None:
                assert isinstance(ref.version, int)
                self._link.run(fetch(self._link.keys, ref.channel, ref.version))
        rows, tally = mint(ticket)
        infos = [{INFO.id: INFO, TWIN.id: TWIN}[name] for name in order.generators]
        batch = make_batch(rows, order=order.id, seed=order.seed, strategy=order.strategy, generators=infos)
        self.tickets.append(f"{order.id}:{ticket.number}")
        self.orders[order.id] = order
        self._link.run(commit(self._link.keys, ticket, write_batch(batch), len(rows.labels), tally))


def mint(ticket: Ticket) -> tuple[Rows, Tally]:
    """What the worker makes of a ticket."""
    order, indices = ticket.order, ticket.indices
    labels = order.labels.of(indices)
    never = order.params.get("never")
    made = ~np.isin(labels, never if isinstance(never, list) else [])
    tally = NOTHING
    if never is not None:
        given_up = count(labels[~made])
        thrice: Counter[int] = Counter({label: 3 * n for label, n in given_up.items()})
        tally = Tally(tried=count(labels[made]) + thrice, wrong_label=thrice, short=given_up)
    labels, indices = labels[made], indices[made]
    soft = np.full((len(labels), 10), 0.01, np.float16)
    soft[np.arange(len(labels)), labels] = 0.91
    rows = Rows(
        blobs(labels, order.seed, indices),
        labels,
        indices,
        np.zeros(len(labels), np.int32),
        sigma=1.0,
        snapshot=order.snapshot.version if order.snapshot else None,  # type: ignore[arg-type]
        soft_labels=soft if order.params.get("soft_labels") else None,
    )
    return rows, tally


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


def write_real(folder: Path) -> Path:
    """The four files of Fashion-MNIST, of blobs: 200 training, 5,000 validation and 300 test images."""
    for name, images in (("train", 5200), ("t10k", 300)):
        indices = np.arange(images)
        labels = (indices % 10).astype(np.uint8)
        for kind, array in (
            ("images-idx3", blobs(labels.astype(np.int32), 7, indices)[..., 0]),
            ("labels-idx1", labels),
        ):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    return folder


def make_config(real: Path, out: Path, epochs: int = 4, /, **dataset: object) -> TrainConfig:
    """A run of 200 blobs, half of which are replaced by random ones; with another `kind`, of that alone."""
    minted = {"kind": "minted", "size": 200, "fresh": [{}]}
    service = {"generators": ["blobs"], "ticket_size": 20}
    given = {**(service if dataset.get("kind") == "collected" else {**minted, **service}), **dataset}
    return TrainConfig.model_validate(
        {
            "run": "run",
            "epochs": epochs,
            "batch_size": 40,
            "classifier": {"architecture": "resnet18", "args": {"width": 2}},
            "dataset": dataset if dataset.get("kind") == "augmented" else given,
            "evaluate": {"folder": str(real), "every": 4},
            "out": str(out),
        }
    )


def keys(link: Link) -> list[str]:
    """What is in Redis, less what belongs to the workers: their heartbeats and the bell that they wait for."""

    def scan() -> Op[list[bytes]]:
        found: list[bytes] = yield Call("KEYS", link.keys.pattern)
        return found

    return [k for k in sorted(map(bytes.decode, link.run(scan()))) if ":worker" not in k and not k.endswith(":bell")]


def assert_same(a: Result, b: Result, but: str = "") -> None:
    """The same weights and the same resident dataset, bit for bit, but for one of its columns."""
    for name, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[name]), name
    for name, tensor in vars(a.dataset).items():
        other = getattr(b.dataset, name)
        assert name == but or tensor is other is None or torch.equal(tensor, other), name
