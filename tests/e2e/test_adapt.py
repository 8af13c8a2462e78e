"""`nonesuch adapt`: in one process and over Ray the same file, with its ledger, and what it refuses."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
import typer
from typer.testing import CliRunner, Result

from nonesuch.classifiers.file import read_classifier, write_classifier
from nonesuch.classifiers.published import CLASSIFIER
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.errors import DataNotFound, InvalidValue, NotFound, ServiceError
from nonesuch.ledger import Ledger, Use
from nonesuch.realdata.fashion_mnist import FASHION_MNIST_CLASSES, RealImages
from nonesuch.snapshots import SnapshotHeader
from nonesuch_trainer.bna import cli as bna_cli
from nonesuch_trainer.bna import spreading as bna_ray
from nonesuch_trainer.settings.adapting import BNAConfig

GENERATOR = Use(by="generator analytic", information="none")
HEADER = SnapshotHeader(
    channel="run",
    version=3,
    architecture="resnet18",
    args={"width": 4},
    image_shape=(28, 28, 1),
    classes=10,
    class_names=FASHION_MNIST_CLASSES,
    mean=(0.5,),
    std=(0.5,),
    epoch=3,
    step=30,
    sha256="0" * 64,
    ledger=Ledger(uses=(GENERATOR,), judged_on="10,000 images of fashion-mnist/test"),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a classifier that was trained on nothing, and an IDX file of images; the current one."""
    torch.manual_seed(0)
    spec = ClassifierSpec(architecture=HEADER.architecture, args=HEADER.args)
    write_classifier(tmp_path / CLASSIFIER, HEADER, build(spec, in_channels=1, classes=10, image_size=28))
    (tmp_path / "images").write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", *IMAGES.shape) + IMAGES.tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adapt(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(bna_cli.adapt)
    return CliRunner().invoke(app, arguments)


def adapted(*arguments: str) -> str:
    """What the command prints. It must succeed."""
    result = adapt(*arguments)
    if result.exception:
        raise result.exception
    return result.stdout


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_snapshot(*read_classifier(path)).state_dict()


@pytest.fixture
def fashion_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(split: str, folder: Path | None = None) -> RealImages:
        labels = np.arange(50, dtype=np.int32) % 10
        return RealImages(IMAGES[..., None], labels, FASHION_MNIST_CLASSES, f"fashion-mnist/{split}")

    monkeypatch.setattr("nonesuch.realdata.unlabelled.load_fashion_mnist", load)
    monkeypatch.setattr("nonesuch.realdata.fashion_mnist.load_fashion_mnist", load)


def test_over_three_workers_as_in_one_process(run: Path) -> None:
    given = (".", "images", "--form", "ema", "--alpha", "0.2", "--batch-size", "8", "--source-weight", "0.1")
    printed = adapted(*given, "--out", "one")
    assert adapted(*given, "--out", "three", "--workers", "3") == printed.replace("to one", "to three")
    assert "20 batch norm layers adapted to 50 images of images: ema, 7 batches, 10% of the old" in printed
    source, one, three = (tensors(run / name) for name in (CLASSIFIER, "one", "three"))
    assert {name for name in source if not torch.equal(source[name], one[name])} == {
        name for name in source if "running" in name or "num_batches" in name
    }
    for name in source:
        torch.testing.assert_close(three[name], one[name], rtol=1e-6, atol=1e-6, msg=name)
    assert not ray.is_initialized()


def test_the_file_says_what_it_was_adapted_to(run: Path, fashion_mnist: None) -> None:
    printed = adapted(CLASSIFIER, "fashion-mnist/train", "--out", "new/file", "--images", "20")
    header, _ = read_classifier(run / "new/file")
    use = Use(
        by="batch norm adaptation",
        information="unlabelled",
        what="20 of the 50 images of fashion-mnist/train",
        data=header.ledger.uses[-1].data,
        direct=True,
    )
    assert use.data.startswith("sha256 of pixels ")
    assert header.ledger == Ledger(uses=(GENERATOR, use))  # what judged the source has not judged this
    assert header.ledger.statement in printed
    assert "accuracy" not in printed
    assert header.model_copy(update={"ledger": HEADER.ledger, "sha256": HEADER.sha256}) == HEADER


def test_judging_before_and_after(run: Path, fashion_mnist: None) -> None:
    printed = adapted(".", "images", "--out", "a", "--evaluate", "fashion-mnist/validation")
    assert "accuracy on 50 images of fashion-mnist/validation: 10.00% before, " in printed
    assert read_classifier(run / "a")[0].ledger.judged_on == "50 images of fashion-mnist/validation"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((".", "images", "--out", CLASSIFIER), InvalidValue, "exists: remove it"),
        (("nothing", "images", "--out", "a"), NotFound, "no classifier file nothing"),
        ((".", "nothing", "--out", "a"), DataNotFound, "there is nothing at nothing"),
        ((".", "images", "--out", "a", "--alpha", "0.5"), InvalidValue, "alpha 0.5 belongs to the form ema"),
        ((".", "images", "--out", "a", "--form", "mean"), InvalidValue, "'cumulative' or 'ema'.*'mean'"),
        ((".", "images", "--out", "a", "--batch-size", "1"), InvalidValue, "batch_size.*greater than or equal to 2"),
        ((".", "images", "--out", "a", "--ray", "auto"), InvalidValue, "--ray auto without --workers"),
        ((".", "images", "--out", "a", "--evaluate", "images"), InvalidValue, "cannot judge what was adapted to it"),
        (
            (".", "images", "--out", "a", "--evaluate", "mnist"),
            InvalidValue,
            "mnist judges nothing: .*fashion-mnist/test",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    arguments: tuple[str, ...], error: type[Exception], message: str, run: Path
) -> None:
    result = adapt(*arguments)
    assert isinstance(result.exception, error)
    with pytest.raises(error, match=f"(?s){message}"):
        raise result.exception
    assert sorted(path.name for path in run.iterdir()) == [CLASSIFIER, "images"]


def test_a_classifier_of_other_images_is_not_judged(run: Path, fashion_mnist: None) -> None:
    header = HEADER.model_copy(update={"class_names": tuple("abcdefghij")})
    write_classifier(run / "other", header, load_snapshot(*read_classifier(run)))
    result = adapt("other", "images", "--out", "a", "--evaluate", "fashion-mnist/test")
    with pytest.raises(InvalidValue, match=r"cannot judge a classifier of \(28, 28, 1\) and 10 classes \(a, b, c, …\)"):
        raise result.exception or AssertionError


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"address": "ray://head:10001"}, InvalidValue, "ray://head:10001 is Ray's client"),
        ({"address": "head"}, InvalidValue, "'head' is no address"),
        ({"address": "127.0.0.1:1"}, ServiceError, "no Ray cluster answers at 127.0.0.1:1"),
        ({"workers": 0}, InvalidValue, "0 workers adapt nothing"),
    ],
)
def test_ray_where_there_is_none(given: dict[str, object], error: type[Exception], message: str, run: Path) -> None:
    arguments = {"address": None, "workers": 3, **given}
    with pytest.raises(error, match=message):
        bna_ray.spread(*read_classifier(run), IMAGES[..., None], BNAConfig(), **arguments)  # type: ignore[arg-type]
    assert not ray.is_initialized()


class Futures:
    """Ray as `_results` sees it: each task is what it gives, or the exception that it raises."""

    class exceptions:
        RayError, RayTaskError = ray.exceptions.RayError, ray.exceptions.RayTaskError

    def __init__(self, ready: Callable[[object], bool]) -> None:
        self.ready = ready
        self.cancelled: list[object] = []

    def wait(self, tasks: list[object], num_returns: int, timeout: float) -> tuple[list[object], list[object]]:
        done = [task for task in tasks if self.ready(task)][:num_returns]
        return done, [task for task in tasks if task not in done]

    def get(self, task: object, timeout: float) -> object:
        if isinstance(task, Exception):
            raise task
        return task

    def cancel(self, task: object, force: bool) -> None:
        self.cancelled.append(task)


def test_tasks_that_do_not_end_are_cancelled() -> None:
    futures = Futures(ready=lambda task: False)
    with pytest.raises(ServiceError, match="none of 2 Ray tasks was done within 5 s"):
        list(bna_ray._results(futures, ["a", "b"], 5, lambda batches: None))
    assert futures.cancelled == ["a", "b"]


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (ray.exceptions.RayTaskError("sum_up", "…", InvalidValue("broken weights")), InvalidValue, "^broken weights$"),
        (
            ray.exceptions.RayTaskError("sum_up", "…", MemoryError("out")),
            ServiceError,
            r"task failed: MemoryError\('out'\)",
        ),
        (ray.exceptions.WorkerCrashedError(), ServiceError, "a Ray task was lost: The worker died"),
    ],
)
def test_a_task_that_fails_ends_the_others(failure: Exception, error: type[Exception], message: str) -> None:
    futures = Futures(ready=lambda task: task is failure)
    with pytest.raises(error, match=message):
        list(bna_ray._results(futures, ["a", failure], 5, lambda batches: None))
    assert futures.cancelled == ["a"]
