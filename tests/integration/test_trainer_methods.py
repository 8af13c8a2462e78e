"""The methods that a run may follow, against a real Redis: Alg. 1 and 2, augmenting, a teacher, quotas, shortfalls."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from nonesuch.classifiers.file import read_classifier
from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.classifiers.spec import Normalisation
from nonesuch.config import RedisSettings
from nonesuch.errors import DataNotFound, InvalidOrder, InvalidValue, NotFound, OrderFailed, SnapshotNotFound
from nonesuch.host.stopping import Stopped
from nonesuch.link import Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.realdata.fashion_mnist import load_fashion_mnist
from nonesuch.seeds import numpy_rng
from nonesuch.smoothed.resident import PERMANENT, ResidentDataset
from nonesuch.snapshots import SnapshotHeader, fetch, publish, read_header
from nonesuch.tickets import Ticket
from nonesuch_trainer import loop
from nonesuch_trainer.learning.epoch import learn, make_classifier
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.loop import Result, train
from nonesuch_trainer.reporting.results import ADAPTED
from nonesuch_trainer.settings.adapting import Adapt
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Real
from nonesuch_trainer.sources.class_quotas import quota
from tests.helpers.blobs import assert_same, blobs, keys, make_config, one_thread, working

pytestmark = pytest.mark.usefixtures("one_threaded")

Config = Callable[..., TrainConfig]
CHOOSY = {"strategy": "filtered", "params": {"never": [3]}}


@pytest.fixture(scope="module")
def teacher(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on real images that is finished."""
    folder = tmp_path_factory.mktemp("teacher")
    run = make_config(real, folder, 1).model_copy(update={"run": "teacher", "dataset": Real(folder=real, size=200)})
    with one_thread():
        train(run)
    return folder


@pytest.fixture
def config(real: Path, tmp_path: Path) -> Config:
    return partial(make_config, real, tmp_path / "out")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ResidentDataset]:
    """What each epoch learned from."""
    datasets: list[ResidentDataset] = []

    def watched(model, optimiser, resident, *rest):  # type: ignore[no-untyped-def]
        datasets.append(replace(resident, **{n: t.clone() for n, t in vars(resident).items() if t is not None}))
        return learn(model, optimiser, resident, *rest)

    monkeypatch.setattr(loop, "learn", watched)
    return datasets


def interrupt(run: TrainConfig, link: Link, url: str, at: str) -> None:
    """Train until a ticket of the order that ends in `at` is claimed, and stop there."""
    stop = threading.Event()

    def hold(ticket: Ticket) -> None:
        if ticket.order.id.endswith(at):
            stop.set()

    with working(url, hold), pytest.raises(Stopped):
        train(run, link, stop=stop)


def elsewhere(run: TrainConfig, folder: Path) -> TrainConfig:
    return run.model_copy(update={"out": folder})


def records(folder: Path, name: str = "metrics.jsonl") -> list[EpochRecord]:
    return [EpochRecord.model_validate_json(line) for line in (folder / name).read_text().splitlines()]


# -- Alg. 2 --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("replacement", [0.5, 0.3])
def test_dataset_smoothing_over_ten_epochs(
    config: Config, link: Link, redis_url: str, seen: list[ResidentDataset], replacement: float
) -> None:
    half_mined = [{"strategy": "hsm"}, {}]
    with working(redis_url):
        result = train(config(10, replacement=replacement, fresh=half_mined), link)
    fresh = round(200 * replacement)
    assert len(seen) == 10
    for epoch, (before, now) in enumerate(pairwise(seen), start=1):
        survives = now.births < epoch
        assert int(survives.sum()) == 200 - fresh
        for name, tensor in vars(before).items():
            assert tensor is None or torch.equal(tensor[survives], getattr(now, name)[survives]), name
        assert torch.bincount(now.labels).tolist() == [20] * 10
        new = now.snapshots[now.births == epoch]
        assert len(new) == fresh
        assert int((new == epoch).sum()) == int((new == -1).sum()) == fresh // 2
    assert [record.r for record in result.history] == [replacement] * 9 + [0.0]


def test_mining_from_a_given_epoch_on(config: Config, link: Link, redis_url: str, seen: list[ResidentDataset]) -> None:
    with working(redis_url) as worker:
        train(config(5, fresh=[{"strategy": "hsm", "from_epoch": 3}]), link)
    assert [int((dataset.snapshots >= 0).sum()) > 0 for dataset in seen] == [False, False, False, True, True]
    assert {order.strategy for id_, order in worker.orders.items() if id_[-3] in "012"} == {"random"}


def test_several_generators_are_mixed(config: Config, link: Link, redis_url: str) -> None:
    with working(redis_url) as worker:
        result = train(config(2, generators=["blobs", "twin"]), link)
    assert {order.strategy for order in worker.orders.values()} == {"mixture"}
    assert "generator blobs (labelled real images); generator twin (labelled real images)" in result.ledger.statement


# -- batch norm --------------------------------------------------------------------------------------------------
def test_batch_norm_is_adapted_as_the_last_step(config: Config, link: Link, redis_url: str) -> None:
    run = config(2).model_copy(update={"adapt": Adapt(to="fashion-mnist/train", images=100)})
    with working(redis_url):
        result = train(run, link)
    assert result.adapted is not None
    (_, plain), (header, adapted) = (read_classifier(run.folder / n) for n in ("classifier.safetensors", ADAPTED))
    before, after = (safetensors.torch.load(payload) for payload in (plain, adapted))
    statistics = {name for name in before if "running_" in name or name.endswith("num_batches_tracked")}
    assert statistics and all(torch.equal(before[name], after[name]) for name in before.keys() - statistics)
    assert any(not torch.equal(before[name], after[name]) for name in statistics)
    assert header.ledger.direct == "unlabelled" and result.ledger.direct == "none"
    assert "100 of the 200 images of fashion-mnist/train" in result.adapted.ledger.statement
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["adapted"]["accuracy"] == round(100 * result.adapted.evaluation.accuracy, 2)
    assert summary["accuracy"] == round(100 * result.evaluation.accuracy, 2)


def test_images_to_adapt_to_that_are_missing_are_found_before_anything_is_minted(
    config: Config, link: Link, redis_url: str, tmp_path: Path
) -> None:
    run = config(2).model_copy(update={"adapt": Adapt(to=str(tmp_path / "nowhere"))})
    with working(redis_url) as worker, pytest.raises(DataNotFound, match="nowhere"):
        train(run, link)
    assert not worker.orders


# -- Alg. 1 --------------------------------------------------------------------------------------------------------
COLLECTED = {"kind": "collected", "size": 100, "step": 40}


def test_a_collected_dataset_stops_at_n_and_is_learned_from_scratch(config: Config, link: Link, redis_url: str) -> None:
    run = config(3, **COLLECTED, epochs_per_step=2)
    with working(redis_url) as worker:
        result = train(run, link)
    dataset = result.dataset
    assert [order.strategy for order in worker.orders.values()] == ["random", "hsm", "hsm"]
    assert [order.count for order in worker.orders.values()] == [40, 40, 20]
    assert torch.bincount(dataset.labels).tolist() == [10] * 10
    assert torch.bincount(dataset.snapshots + 1).tolist() == [40, 0, 40, 20]
    assert (dataset.births == 0).all()
    assert all(record.ordered == 0 for record in result.history)

    steps = records(run.folder, "collecting.jsonl")
    assert [(r.epoch, r.ordered, r.replaced, r.age) for r in steps] == [(1, 40, 40, 0), (2, 20, 20, 0)]
    assert [r.step for r in steps] == [2 * 1, 2 * 1 + 2 * 2]  # two epochs of 40 images, and of 80, 40 at a time
    assert all(r.learning_rate == run.optimiser.lr for r in steps)

    again = make_classifier(run.learning, (28, 28, 1), 10, torch.device("cpu"))
    optimiser = make_optimiser(again, run.optimiser)
    for epoch in range(3):
        learn(again, optimiser, dataset, run.learning, epoch, lambda done, total: None)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, result.model.state_dict()[name]), name
    assert keys(link) == []


@pytest.mark.parametrize("at", ["-1-0", "-2-0"])
def test_a_collection_that_is_interrupted_goes_on(
    config: Config, link: Link, redis_url: str, tmp_path: Path, at: str
) -> None:
    run = config(2, **COLLECTED)
    with working(redis_url):
        undisturbed = train(elsewhere(run, tmp_path / "undisturbed"), link)
    interrupt(run, link, redis_url, at)
    assert keys(link) == []
    with working(redis_url) as worker:
        result = train(run, link)
    assert not any(id_.endswith("-0-0") for id_ in worker.orders)  # what was collected is not collected again
    assert_same(result, undisturbed)
    steps, others = (records(folder, "collecting.jsonl") for folder in (run.folder, undisturbed.folder))
    assert [(r.loss, r.step) for r in steps] == [(r.loss, r.step) for r in others]


def test_a_collection_starts_over_when_it_is_told_to(config: Config, link: Link, redis_url: str) -> None:
    run = config(1, **COLLECTED)
    interrupt(run, link, redis_url, "-2-0")
    with working(redis_url) as worker:
        train(run, link, resume=False)
    assert len(worker.orders) == 3


def test_a_collection_that_falls_short_says_so(config: Config, link: Link, redis_url: str) -> None:
    run = config(1, **COLLECTED, mined={"strategy": "hsm", "params": {"never": [3]}})
    with working(redis_url):
        result = train(run, link)
    assert torch.bincount(result.dataset.labels).tolist() == [10, 10, 10, 4, 10, 10, 10, 10, 10, 10]
    assert [record.short for record in records(run.folder, "collecting.jsonl")] == [4, 2]
    assert result.tally.short == {3: 6}


# -- augmentation --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("replacement", [0.0, 0.4])
def test_real_images_are_augmented_and_stay(
    config: Config, link: Link, redis_url: str, real: Path, seen: list[ResidentDataset], replacement: float
) -> None:
    dataset = {
        "kind": "augmented",
        "percent": 25,
        "real": {"size": 200, "folder": str(real)},
        "minted": {"generators": ["blobs"], "replacement": replacement, "fresh": [{"strategy": "hsm"}]},
    }
    with working(redis_url):
        result = train(config(3, **dataset), link)
    for epoch, now in enumerate(seen):
        assert len(now) == 250
        assert (now.births[:200] == PERMANENT).all() and (now.seeds[:200] == 0).all()
        assert torch.equal(now.images[:200], seen[0].images[:200])
        assert torch.bincount(now.labels[:200]).tolist() == [20] * 10
        assert torch.bincount(now.labels[200:]).tolist() == [5] * 10
        assert int((now.births == epoch).sum()) == (50 if epoch == 0 else round(50 * replacement))
    assert [record.r for record in result.history] == [replacement, replacement, 0.0]
    assert result.ledger.direct == "labelled"
    assert [use.by for use in result.ledger.uses] == ["training", "generator blobs"]
    assert torch.equal(seen[0].images[200], torch.from_numpy(minted_again(seen[0], 200)))


def minted_again(dataset: ResidentDataset, row: int) -> np.ndarray:
    label, seed, index = (int(column[row]) for column in (dataset.labels, dataset.seeds, dataset.indices))
    return blobs(np.array([label], np.int32), seed, np.array([index]))[0]


# -- the classifier file and the ledger ----------------------------------------------------------------------------
def test_a_finished_run_leaves_its_classifier(config: Config, link: Link, redis_url: str) -> None:
    run = config(2)
    published: list[SnapshotHeader] = []

    def look(ticket: Ticket) -> None:
        published.append(link.run(read_header(link.keys, ticket.order.sink, "latest")))

    with working(redis_url, look):
        result = train(run, link)
    header, payload = read_classifier(run.folder)
    assert (header.channel, header.version, header.epoch, header.step) == ("run", 2, 2, result.history[-1].step)
    assert header.class_names[:2] == ("T-shirt/top", "Trouser")
    assert header.ledger == result.ledger
    loaded = load_snapshot(header, payload)
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert {h.version for h in published} == {0, 1}
    assert {(h.ledger, h.class_names) for h in published} == {(header.ledger, header.class_names)}


# -- a teacher -----------------------------------------------------------------------------------------------------
def test_a_teacher_from_a_file(config: Config, link: Link, redis_url: str, teacher: Path) -> None:
    shown: list[SnapshotHeader] = []

    def look(ticket: Ticket) -> None:
        assert ticket.order.teacher is not None and isinstance(ticket.order.teacher.version, int)
        shown.append(link.run(read_header(link.keys, ticket.order.teacher.channel, ticket.order.teacher.version)))

    fresh = [{"strategy": "filtered"}, {}]
    with working(redis_url, look):
        result = train(config(2, fresh=fresh, teacher={"classifier": str(teacher)}), link)
    header, _ = read_classifier(teacher)
    assert {h.sha256 for h in shown} == {header.sha256}
    assert "teacher (labelled real images: 200 of the 200 images of fashion-mnist/train)" in result.ledger.statement
    assert result.ledger.direct == "none"
    assert keys(link) == []


def test_a_teacher_from_a_channel_stays_what_it_was_at_the_start(
    config: Config, link: Link, redis_url: str, teacher: Path
) -> None:
    header, payload = read_classifier(teacher)
    now = header.model_copy(update={"channel": "taught", "version": 4})
    link.run(publish(link.keys, now, payload))
    shown = set()

    def publish_another(ticket: Ticket) -> None:
        other = now.model_copy(update={"version": 5, "step": 99})
        link.run(publish(link.keys, other, payload))
        assert ticket.order.teacher is not None and ticket.order.teacher.version == 0
        shown.add(link.run(read_header(link.keys, ticket.order.teacher.channel, 0)).step)

    with working(redis_url, publish_another):
        train(config(2, teacher={"channel": "taught"}), link)
    assert shown == {header.step}
    assert len(keys(link)) > 0  # somebody else's channel is left alone


def test_a_teacher_survives_a_redis_that_forgets(config: Config, teacher: Path, tmp_path: Path) -> None:
    run = config(3, teacher={"classifier": str(teacher)}, fresh=[{"strategy": "filtered"}, {"strategy": "hsm"}])
    results = []
    with PrivateRedis(max_memory_mb=64) as server, Link(RedisSettings(url=server.url)) as link:
        pending = ["-1-0:1", "-2-1:0"]

        def pull_the_plug(ticket: Ticket) -> None:
            if pending and f"{ticket.order.id}:{ticket.number}".endswith(pending[0]):
                pending.pop(0)
                server.kill()
                server.start()

        for folder, before in (("calm", lambda ticket: None), ("storm", pull_the_plug)):
            with working(server.url, before):
                results.append(train(elsewhere(run, tmp_path / folder), link))
    assert not pending
    assert_same(*results)


def test_a_teacher_that_is_not_there_ends_the_run_at_once(config: Config, link: Link, redis_url: str) -> None:
    with working(redis_url) as worker:
        with pytest.raises(NotFound, match="no classifier file nowhere"):
            train(config(teacher={"classifier": "nowhere"}), link)
        with pytest.raises(SnapshotNotFound, match="channel 'taught'"):
            train(config(teacher={"channel": "taught"}), link)
        with pytest.raises(InvalidOrder, match="filtered needs a teacher"):
            train(config(fresh=[{"strategy": "filtered"}]), link)
    assert worker.tickets == []
    assert keys(link) == []


def test_a_run_does_not_go_on_with_another_teacher(
    config: Config, link: Link, redis_url: str, teacher: Path, real: Path, tmp_path: Path
) -> None:
    other = make_config(real, tmp_path / "other", 1).model_copy(
        update={"seed": 5, "dataset": Real(folder=real, size=200)}
    )
    train(other)
    interrupt(config(3, teacher={"classifier": str(teacher)}), link, redis_url, "-1-0")
    with working(redis_url), pytest.raises(InvalidValue, match="the teacher with other weights"):
        train(config(3, teacher={"classifier": str(other.folder)}), link)


def test_soft_labels_come_from_the_teacher_and_survive_a_stop(
    config: Config, link: Link, redis_url: str, teacher: Path, tmp_path: Path
) -> None:
    run = config(3, labels="soft", teacher={"classifier": str(teacher)}, fresh=[{"strategy": "hsm"}, {}])
    with working(redis_url) as worker:
        soft = train(elsewhere(run, tmp_path / "soft"), link)
        hard = train(elsewhere(config(3, fresh=[{"strategy": "hsm"}, {}]), tmp_path / "hard"), link)
    assert sum(order.params == {"soft_labels": True} for order in worker.orders.values()) == 5
    assert soft.dataset.soft is not None and hard.dataset.soft is None
    probability = soft.dataset.soft.gather(1, soft.dataset.labels[:, None])
    assert (probability == torch.tensor(0.91).half()).all()
    assert torch.equal(soft.dataset.images, hard.dataset.images)
    assert not torch.equal(soft.model.state_dict()["fc.weight"], hard.model.state_dict()["fc.weight"])

    interrupt(run, link, redis_url, "-2-0")
    with working(redis_url):
        assert_same(train(run, link), soft)


# -- class quotas --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("staleness", [0, 1])
def test_quotas_follow_the_errors_and_survive_a_stop(
    config: Config, link: Link, redis_url: str, tmp_path: Path, staleness: int
) -> None:
    run = config(5, quotas={"strength": 1.0, "split": "train"}, staleness=staleness, fresh=[{"strategy": "hsm"}])
    images = load_fashion_mnist("train", run.evaluate.folder)
    expected: dict[str, list[int]] = {}

    def look(ticket: Ticket) -> None:
        """What the order's quotas should be, by the snapshot that it is aimed at."""
        if ticket.order.snapshot is None or ticket.order.id in expected:
            return
        assert isinstance(ticket.order.snapshot.version, int)
        header, payload = link.run(fetch(link.keys, ticket.order.snapshot.channel, ticket.order.snapshot.version))
        x = input_tensor(torch.from_numpy(images.images), Normalisation(mean=header.mean, std=header.std))
        wrong = load_snapshot(header, payload)(x).argmax(dim=1).numpy() != images.labels
        birth = int(ticket.order.id.split("-")[-2])
        turns = numpy_rng(run.seed, "classes", birth).permutation(10)  # who gets what is left over
        counts = quota(100, [float(wrong[images.labels == k].mean()) for k in turns], 1.0)
        expected[ticket.order.id] = [counts[i] for i in np.argsort(turns)]

    with working(redis_url, look) as worker:
        undisturbed = train(elsewhere(run, tmp_path / "undisturbed"), link)
    if staleness == 1:  # of a classifier that has learned nothing nothing is known
        unknown = next(id_ for id_ in expected if id_.endswith("-1-0"))
        assert worker.orders[unknown].labels.kind == "balanced"
        del expected[unknown]
    ordered = {id_: worker.orders[id_].labels.model_dump()["counts"] for id_ in expected}
    assert {id_: [counts[k] for k in range(10)] for id_, counts in ordered.items()} == expected
    assert len(ordered) == 4 - staleness
    assert any(max(counts) > min(counts) + 2 for counts in expected.values())
    for record in undisturbed.history[:-1]:
        assert record.shares is not None and sum(record.shares.values()) == pytest.approx(1)
    assert undisturbed.history[-1].shares is None
    assert torch.bincount(undisturbed.dataset.labels).tolist() != [20] * 10
    use = next(use for use in undisturbed.ledger.uses if use.by == "class quotas")
    assert (use.information, use.what, use.direct) == ("labelled", "200 images of fashion-mnist/train", False)

    interrupt(run, link, redis_url, "-3-0")
    with working(redis_url):
        assert_same(train(run, link), undisturbed)


# -- shortfalls ----------------------------------------------------------------------------------------------------
def test_a_class_that_cannot_be_made_is_a_reported_shortfall(
    config: Config, link: Link, redis_url: str, teacher: Path, tmp_path: Path
) -> None:
    run = config(3, fresh=[CHOOSY], teacher={"classifier": str(teacher)})
    with working(redis_url):
        undisturbed = train(elsewhere(run, tmp_path / "undisturbed"), link)
    first, second, last = undisturbed.history
    for record in (first, second):
        assert (record.ordered, record.replaced, record.short, record.r) == (100, 90, 10, 0.45)
        assert (record.tried, record.wrong_label, record.below_threshold) == (120, 30, 0)
        assert "kept 75.0 % of 120, 10 short" in record.line
    assert (last.ordered, last.short, last.tried) == (0, 0, 0)
    assert torch.bincount(undisturbed.dataset.labels).tolist() == [20] * 10

    summary = json.loads((undisturbed.folder / "summary.json").read_text())
    assert summary["short"] == 20
    assert len(summary["acceptance"]) == 10
    assert summary["acceptance"][3] == {
        "class": "Dress", "tried": 60, "kept": 0, "wrong_label": 60, "below_threshold": 0, "short": 20,
    }  # fmt: skip
    assert (undisturbed.folder / "acceptance.png").exists()

    interrupt(run, link, redis_url, "-2-0")
    with working(redis_url):
        result = train(run, link)
    assert result.tally == undisturbed.tally
    assert_same(result, undisturbed)


def test_a_first_dataset_that_falls_short_ends_the_run(
    config: Config, link: Link, redis_url: str, teacher: Path
) -> None:
    with (
        working(redis_url),
        pytest.raises(
            OrderFailed, match=r"lacks 20 of 200 images that strategy 'filtered' .*\(Dress 20\).*less choosy"
        ),
    ):
        train(config(2, first=CHOOSY, teacher={"classifier": str(teacher)}), link)
    assert keys(link) == []


def test_a_run_that_rejects_nothing_draws_nothing(config: Config, link: Link, redis_url: str) -> None:
    with working(redis_url):
        result: Result = train(config(2), link)
    assert not (result.folder / "acceptance.png").exists()
    assert "acceptance" not in json.loads((result.folder / "summary.json").read_text())
