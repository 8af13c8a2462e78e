"""`SmoothedDataset` over HTTP and over Redis, with a hand-written worker."""

import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, get_worker_info

from nonesuch import SmoothedDataset
from nonesuch.errors import (
    GeneratorNotFound,
    InvalidOrder,
    InvalidSnapshot,
    InvalidValue,
    NoWorkers,
    OrderFailed,
    TakeTimeout,
    Unreachable,
)
from nonesuch.link import Call, Link
from nonesuch.smoothed import over_http
from nonesuch.tickets import Ticket
from tests.helpers.blobs import blobs, keys, working

SIZE = 200
Make = Callable[..., SmoothedDataset]


@pytest.fixture(params=["redis", "http"])
def url(request: pytest.FixtureRequest, gateway: str, redis_url: str) -> str:
    return redis_url if request.param == "redis" else gateway


@pytest.fixture
def worker(redis_url: str) -> Iterator[None]:
    with working(redis_url) as started:
        yield started


@pytest.fixture
def make(url: str) -> Iterator[Make]:
    """`make(replace=0.2)`: a dataset of 200 blobs; it is closed with the test."""
    made = []

    def new(at: str = url, **given: object) -> SmoothedDataset:
        fixed = {"size": SIZE, "generator": "blobs", "progress": False, "timeout_s": 20.0}
        made.append(SmoothedDataset(at, **{**fixed, **given}))
        return made[-1]

    yield new
    for dataset in made:
        dataset.close()


def train(ds: SmoothedDataset, epochs: int) -> None:
    """Publish a model and refresh, so many times."""
    for _ in range(epochs):
        torch.manual_seed(ds.epoch)
        ds.publish(ds.classifier(width=2))
        ds.refresh()


def rows(ds: SmoothedDataset) -> dict[str, torch.Tensor]:
    """The dataset's columns, as they are now."""
    state = ds.state_dict()
    return {name: state[name] for name in ("images", "labels", "births", "seeds", "indices", "snapshots")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


# -- what is in it -------------------------------------------------------------------------------------------------
def test_it_holds_n_images_and_their_labels(make: Make, worker: object) -> None:
    ds = make(mean=0.25, std=0.5)
    assert len(ds) == SIZE and len(ds.class_names) == 10 and ds.image_shape == (28, 28, 1)
    assert torch.bincount(ds.labels).tolist() == [20] * 10
    minted = rows(ds)
    for row in (0, 57, 199):
        x, y = ds[row]
        pixels = blobs(np.array([y], np.int32), int(minted["seeds"][row]), minted["indices"][row : row + 1].numpy())[0]
        assert x.shape == (1, 28, 28) and x.dtype == torch.float32 and y == ds.labels[row]
        assert torch.allclose(x, (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - 0.25) / 0.5)
    with pytest.raises(IndexError):
        ds[SIZE]


def test_some_classes_and_a_transform(make: Make, worker: object) -> None:
    ds = make(classes=["Sneaker", 3], transform=lambda x: x * 0, replace=0)
    assert torch.bincount(ds.labels).tolist() == [0, 0, 0, 100, 0, 0, 0, 100]
    x, y = next(iter(DataLoader(ds, batch_size=50)))
    assert x.shape == (50, 1, 28, 28) and y.dtype == torch.int64 and not x.any()
    assert ds.refresh().replaced == 0 and ds.epoch == 1


def test_refresh_replaces_exactly_r_n_half_of_them_mined(make: Make, worker: object) -> None:
    ds = make(replace=0.5, mined=0.5)
    before = rows(ds)
    ds.publish(ds.classifier(width=2))
    done = ds.refresh()
    assert (done.replaced, done.short, done.age) == (100, 0, 0)
    after = rows(ds)
    changed = (before["images"] != after["images"]).flatten(1).any(1)
    assert changed.sum() == 100 and torch.equal(changed, after["births"] == 1)
    assert (after["snapshots"] == 0).sum() == 50
    assert torch.equal(before["labels"], after["labels"])
    ages = ds.age()
    assert (ages.refreshes == (~changed).numpy()).all() and (ages.snapshots >= 0).sum() == 50
    assert (
        str(ages)
        == "200 images, in the dataset for 0.5 refreshes (at most 1), 50 mined against models 0.0 versions old"
    )


def test_both_ways_give_the_same_images(make: Make, worker: object, gateway: str, redis_url: str) -> None:
    found = []
    for at in (gateway, redis_url):
        ds = make(at, replace=0.3, seed=5)
        train(ds, 2)
        found.append(rows(ds))
    assert same(*found)
    assert not same(found[0], rows(make(gateway, replace=0.3, seed=6)))


# -- when they are minted ------------------------------------------------------------------------------------------
def test_they_are_minted_while_the_user_trains(make: Make, worker, until: Callable[..., None]) -> None:
    ds = make(strategy="hsm")
    ds.publish(ds.classifier(width=2))
    until(lambda: len({t.split(":")[0] for t in worker.tickets}) == 3)  # before anybody asks
    before = rows(ds)
    ds.publish(ds.classifier(width=2))
    assert ds.refresh().age == 1
    assert not same(before, rows(ds))
    until(lambda: len({t.split(":")[0] for t in worker.tickets}) == 5)
    ds.refresh()
    assert ds.age().snapshots.max() == 1  # first 0, then 1; the latest is 1


def test_or_only_then_for_the_model_of_this_moment(make: Make, worker) -> None:
    ds = make(staleness=0)
    for version in range(3):
        ds.publish(ds.classifier(width=2))
        minted = len(worker.tickets)
        assert ds.refresh().age == 0
        assert len(worker.tickets) > minted
        assert (rows(ds)["snapshots"] == version).any()


def test_nothing_is_published_for_random_images(make: Make, worker, link: Link, until: Callable[..., None]) -> None:
    ds = make(mined=0)
    until(lambda: len({t.split(":")[0] for t in worker.tickets}) == 2)
    assert ds.refresh().age is None
    assert not [key for key in keys(link) if "snapshots" in key]


# -- going on, and stopping ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("published", [False, True])
def test_who_goes_on_gets_the_same_images(make: Make, worker: object, published: bool) -> None:
    ds = make()
    train(ds, 2)
    model = ds.classifier(width=2)
    if published:
        ds.publish(model)
    file = BytesIO()
    torch.save(ds.state_dict(), file)
    again = make(state=torch.load(BytesIO(file.getvalue()), weights_only=True))
    assert again.epoch == 2 and same(rows(ds), rows(again))
    for each in (ds, again):
        if not published:
            each.publish(model, "resnet18", {"width": 2})
        assert each.refresh().age == 1
        each.publish(model, "resnet18", {"width": 2})
        each.refresh()
    assert same(rows(ds), rows(again))
    ds.load_state_dict(torch.load(BytesIO(file.getvalue()), weights_only=True))  # back in time
    assert ds.epoch == 2
    ds.publish(model, "resnet18", {"width": 2})
    ds.refresh()
    assert ds.epoch == 3


def test_nothing_is_left_behind(url: str, make: Make, redis_url: str, link: Link, until: Callable[..., None]) -> None:
    hold = threading.Event()
    hold.set()
    with working(redis_url, before=lambda ticket: hold.wait(20) and None) as worker:
        ds = make()
        hold.clear()
        ds.publish(ds.classifier(width=2))
        hold.set()
        ds.refresh()
        hold.clear()
        assert ds.state_dict()["pending"]
        threading.Timer(0.3, hold.set).start()
        ds.close()
        ds.close()
        assert len(ds) == SIZE and ds[0][0].shape == (1, 28, 28)
        with pytest.raises(InvalidValue, match=r"refresh\(\) after the dataset was closed"):
            ds.refresh()
        del ds
    assert worker.tickets
    # Over HTTP the last models stay, and for a while what requests were served.
    stays = ("nonesuch:channels", "nonesuch:snapshots:smoothed", "nonesuch:once:") if url.startswith("http") else ()
    until(lambda: all(key.startswith(stays) for key in keys(link)))


def test_a_dataset_that_is_dropped_closes_itself(worker: object, redis_url: str, link: Link) -> None:
    ds = SmoothedDataset(redis_url, size=20, generator="blobs", mined=0, progress=False)
    assert keys(link)
    del ds
    gc.collect()
    assert keys(link) == []


@pytest.mark.parametrize("ctrl_c", [False, True])
def test_the_end_of_the_program_leaves_nothing(redis_url: str, link: Link, ctrl_c: bool, tmp_path: Path) -> None:
    script = tmp_path / "user.py"
    script.write_text(
        "import sys, nonesuch\n"
        "ds = nonesuch.SmoothedDataset(sys.argv[1], size=100, generator='blobs', mined=0)\n"
        "print('filled', flush=True)\n"
        "if 'wait' in sys.argv: ds.refresh()\n"
    )
    stuck = threading.Event()

    def only_the_first(ticket: Ticket) -> None:
        if "-2-" in ticket.order.id:
            stuck.wait(20)

    with working(redis_url, before=only_the_first):
        command = [sys.executable, str(script), redis_url, *(["wait"] if ctrl_c else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as user:
            assert user.stdout.readline() == "filled\n"
            if ctrl_c:
                user.send_signal(signal.SIGINT)
            _, errors = user.communicate(timeout=30)
        stuck.set()
    assert user.returncode == (-signal.SIGINT if ctrl_c else 0), errors
    assert ("KeyboardInterrupt" in errors) == ctrl_c and errors.count("Traceback") == ctrl_c
    assert keys(link) == []


# -- what goes wrong -----------------------------------------------------------------------------------------------
def test_a_redis_that_forgets_everything_is_told_again(
    make: Make, redis_url: str, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_http, "PAUSE_S", 0.1)
    once = threading.Event()

    def forget(ticket: Ticket) -> None:
        if once.is_set() and ticket.order.strategy == "hsm":
            once.clear()
            link.run(flush())

    def flush():
        yield Call("FLUSHALL")

    with working(redis_url, before=forget):
        ds = make()
        once.set()
        ds.publish(ds.classifier(width=2))
        assert ds.refresh().replaced == 100
        assert not once.is_set()


def test_a_failure_leaves_the_dataset_as_it_was(make: Make, redis_url: str) -> None:
    refuse = threading.Event()

    def before(ticket: Ticket) -> None:
        if refuse.is_set():
            raise InvalidValue("the generator is out of paint")

    with working(redis_url, before=before):
        ds = make(mined=0, staleness=0)
        refuse.set()
        before_it = rows(ds)
        with pytest.raises(OrderFailed, match="out of paint"):
            ds.refresh()
        assert ds.epoch == 0 and same(before_it, rows(ds))
        refuse.clear()
        assert ds.refresh().replaced == 100


def test_what_cannot_be_mined_is_short(make: Make, worker: object) -> None:
    ds = make(params={"never": [3]})
    ds.publish(ds.classifier(width=2))
    done = ds.refresh()
    assert (done.replaced, done.short) == (95, 5)
    assert torch.bincount(ds.labels).tolist() == [20] * 10


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"size": 1}, InvalidValue, "size"),
        ({"replace": 1.5}, InvalidValue, "replace"),
        ({"replace": 0.001}, InvalidValue, "not a single image"),
        ({"staleness": 2}, InvalidValue, "staleness"),
        ({"std": 0}, InvalidValue, "must be positive"),
        ({"classes": ["Sneeker"]}, InvalidOrder, "did you mean Sneaker"),
        ({"generator": "blob"}, GeneratorNotFound, "hosted now: blobs"),
        ({"generator": None}, InvalidOrder, "name one of blobs, twin"),
        ({"strategy": "hms"}, InvalidOrder, "the workers know"),
        ({"params": {"step": 3}}, InvalidOrder, "step"),
        ({"random_params": {"sigma": "wide"}}, InvalidOrder, "sigma"),
        ({"state": {"images": 3}}, InvalidValue, "state"),
    ],
)
def test_what_cannot_work_is_refused_at_once(make: Make, worker, given: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        make(**given)
    assert not worker.tickets


def test_workers_that_come_later_are_waited_for(make: Make, redis_url: str) -> None:
    later = threading.Timer(0.7, lambda: workers.enter_context(working(redis_url)))
    with ExitStack() as workers:
        later.start()
        assert len(make()) == SIZE
        later.join()


def test_a_service_that_is_not_there(make: Make, url: str) -> None:
    with pytest.raises(NoWorkers, match="start one"):
        make(timeout_s=0.2)
    with pytest.raises(Unreachable):
        make("redis://127.0.0.1:9" if url.startswith("unix") else "redis://localhost:9", timeout_s=0.2)
    with pytest.raises(InvalidValue, match="URL"):
        make("ftp://here")


def test_nobody_waits_for_ever(make: Make, redis_url: str) -> None:
    stuck = threading.Event()
    with working(redis_url, before=lambda ticket: stuck.wait(20) and None):
        with pytest.raises((TakeTimeout, OrderFailed)):
            make(timeout_s=1.0)
        stuck.set()


def test_models_that_nobody_could_rebuild(make: Make, worker: object) -> None:
    ds = make(replace=0.1)
    with pytest.raises(InvalidValue, match=r"call publish\(model\) before"):
        ds.refresh()
    model = ds.classifier(width=2)
    ds.publish(nn.DataParallel(model))
    with pytest.raises(InvalidSnapshot, match=r"does not fit.*extra bias"):
        ds.publish(nn.Linear(3, 3))
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(InvalidSnapshot, match=r"fc\.bias has values that are not finite"):
        ds.publish(model)
    with pytest.raises(InvalidValue, match="resnet18"):
        ds.publish(model, "resnet81")
    with pytest.raises(InvalidValue, match="wdith"):
        ds.classifier(wdith=2)
    with pytest.raises(InvalidValue, match="which network is it"):
        make(replace=0.1).publish(model)
    with pytest.raises(InvalidValue, match="size 200"):
        make(size=100, state=ds.state_dict())


# -- a DataLoader's workers ----------------------------------------------------------------------------------------
def _refreshing(x: torch.Tensor) -> torch.Tensor:
    """A transform that tries what only the owner may do."""
    ds = get_worker_info().dataset
    for forbidden in (ds.refresh, lambda: ds.publish(nn.Linear(1, 1)), lambda: ds.load_state_dict({})):
        with pytest.raises(InvalidValue, match="process that has a copy"):
            forbidden()
    return x


@pytest.mark.parametrize(("method", "transform"), [("fork", _refreshing), ("spawn", None)])
@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_persistent_workers_see_what_was_replaced(
    make: Make, worker: object, method: str, transform: Callable[[torch.Tensor], torch.Tensor] | None
) -> None:
    ds = make(replace=1.0, transform=transform)
    ds.publish(ds.classifier(width=2))
    loader = DataLoader(ds, batch_size=SIZE, num_workers=1, persistent_workers=True, multiprocessing_context=method)
    for _ in range(2):
        ((x, y),) = loader
        assert torch.equal((x * 0.5 + 0.5).mul(255).round().byte(), ds.images.permute(0, 3, 1, 2))
        assert torch.equal(y, ds.labels)
        ds.refresh()
    loader._iterator._shutdown_workers()
