"""`nonesuch condition`, from files to a generator like any other: made whole or not at all, read strictly, served."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from nonesuch import plugins
from nonesuch.classifiers.file import write_classifier
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue, NotFound
from nonesuch.labels import Balanced
from nonesuch.ledger import NO_USES
from nonesuch.orders import Order
from nonesuch.schema import images_of, labels_of
from nonesuch.snapshots import SnapshotHeader
from nonesuch.tickets import Ticket
from nonesuch_worker.condition import conditioning
from nonesuch_worker.condition.cli import condition
from nonesuch_worker.generators.base import from_uint8_NHWC
from nonesuch_worker.generators.conditioned.card import Card
from nonesuch_worker.generators.conditioned.loading import BASE, WEIGHTS, ConditionedGenerator
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minting.minter import Classifier, Minter
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from tests.helpers import quadrants
from tests.helpers.quadrants import CLASSES, Corners

NAMES = ("ant", "bee", "cat", "dog")
QUICK = "iterations = 120\nhidden = 32\nlr = 0.005\nbatch = 32\nregulariser = 'none'\n"


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", quadrants.registered)


def header(**given: Any) -> SnapshotHeader:
    return SnapshotHeader.model_validate(
        {
            "channel": "run", "version": 3, "architecture": "corners", "image_shape": (16, 16, 1), "classes": 4,
            "class_names": NAMES, "mean": (0.5,), "std": (0.5,), "epoch": 0, "step": 0, "sha256": "0" * 64, **given,
        }
    )  # fmt: skip


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Takes 16 px where the generator makes 8."""
    write_classifier(tmp_path / "corners.safetensors", header(), Corners(16))
    return tmp_path / "corners.safetensors"


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    (tmp_path / "quick.toml").write_text(QUICK)
    return tmp_path / "quick.toml"


@pytest.fixture
def compact(tmp_path: Path) -> Path:
    """The folder of an unconditional generator with random weights."""
    config = CompactConfig(image_size=8, channels=1, classes=1, z_dim=12, embedding_dim=4, widths=(8, 8, 4))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = CompactGenerator(config)
    folder = tmp_path / "compact"
    folder.mkdir()
    tensors = {name: t.contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, folder / "generator.safetensors")
    card = {
        "format": "nonesuch-compact-1", "family": "compact", "name": "one", "class_names": ["thing"],
        "architecture": config.model_dump(), "real_information": "unlabelled", "license": "CC-BY-4.0",
        "sha256": hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest(),
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def called(base: object, classifier: Path, **options: Any) -> str:
    app = typer.Typer()
    app.command()(condition)
    given = {"name": "four", "images": 40, **options}
    arguments = [str(a) for name, value in given.items() if value is not None for a in (f"--{name}", value)]
    result = CliRunner().invoke(app, [str(base), str(classifier), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def pixels(generator: Any, count: int = 8) -> torch.Tensor:
    z = torch.randn(count, generator.info.z_dim, generator=torch.Generator().manual_seed(5))
    return generator(z, torch.arange(count) % 4)


# --- what it makes


def test_an_unconditional_generator_gets_the_classifier_s_classes(
    tmp_path: Path, classifier: Path, quick: Path
) -> None:
    out = tmp_path / "four"
    said = called("quadrants:8", classifier, config=quick, out=out)
    report = json.loads((out / "report.json").read_text())
    assert report["classifier"]["accuracy"] >= 0.95 and len(report["classes"]) == 4
    assert "precision" in said and f"{report['classifier']['accuracy']:.3f}" in said and "dog" in said

    generator = load_generator(str(out))
    assert isinstance(generator, ConditionedGenerator)
    info = generator.info
    assert (info.id, info.family, info.class_names, info.z_dim) == ("four", "conditioned", NAMES, 6)
    assert (info.image_shape, info.license, info.real_information) == ((8, 8, 1), "CC0-1.0", "labelled")
    card = Card.model_validate_json((out / "card.json").read_bytes())
    assert card.base.argument == "8" and not (out / BASE).exists(), "a base without a folder is named"
    assert card.metrics["accuracy"] == report["classifier"]["accuracy"]
    assert card.recipe.iterations == 120 and card.classifier.version == 3
    with Image.open(out / "images.png") as sheet:
        assert sheet.size == (12 * 8, 4 * 8)


def test_it_is_served_like_any_other_and_can_be_mined(tmp_path: Path, classifier: Path, quick: Path) -> None:
    called("quadrants:8", classifier, config=quick, out=tmp_path / "four")
    minter = Minter([load_generator(str(tmp_path / "four"))])
    order = {"id": "o", "generators": ("four",), "labels": Balanced(classes=(0, 1, 2, 3)), "count": 40, "sink": "s"}
    tickets = [
        Ticket(order=Order.model_validate({**order, "strategy": "random"}), number=0),
        Ticket(
            order=Order.model_validate(
                {**order, "strategy": "hsm", "params": {"steps": 3, "eta": 0.2}, "snapshot": {"channel": "run"}}
            ),
            number=0,
        ),
    ]
    corners = Corners().eval()
    random, mined = (minter.mint(t, Classifier(corners, header(image_shape=(8, 8, 1)))).batch for t in tickets)
    x = from_uint8_NHWC(torch.from_numpy(images_of(random).copy()))
    seen = corners(x).argmax(dim=1).numpy()
    assert (seen == labels_of(random)).mean() >= 0.95
    assert np.less(mined["score"].to_pylist(), mined["score_before"].to_pylist()).all()


def test_the_base_s_folder_goes_with_it_and_gives_the_same_bytes(
    tmp_path: Path, classifier: Path, compact: Path
) -> None:
    outs = [tmp_path / "made" / "a", tmp_path / "made" / "b"]
    for out, source in zip(outs, (compact, f"compact:{compact}"), strict=True):
        called(source, classifier, iterations=3, out=out)
    files = sorted(str(path.relative_to(outs[0])) for path in outs[0].rglob("*") if path.is_file())
    wanted = ["base/card.json", "base/generator.safetensors", "card.json", "images.png", "input.safetensors"]
    assert files == [*wanted, "report.json"]
    for name in files:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    compact.rename(tmp_path / "elsewhere")
    outs[0].rename(tmp_path / "moved")
    generators = [load_generator(str(place)) for place in (tmp_path / "moved", outs[1])]
    assert torch.equal(*map(pixels, generators)) and generators[0].info == generators[1].info
    assert generators[0].info.license == "CC-BY-4.0"
    base = load_generator(str(tmp_path / "elsewhere"))
    assert generators[0].info.sha256 not in (
        base.info.sha256,
        json.loads((outs[1] / "card.json").read_text())["sha256"],
    )


def test_real_information_is_what_base_and_classifier_learned_from(tmp_path: Path, compact: Path) -> None:
    write_classifier(tmp_path / "c", header(ledger=NO_USES), Corners(16))
    for source, known in (("quadrants:8", "none"), (compact, "unlabelled")):
        called(source, tmp_path / "c", iterations=2, images=2, out=tmp_path / known)
        assert load_generator(str(tmp_path / known)).info.real_information == known


def test_a_judge_and_a_classifier_without_names(tmp_path: Path, quick: Path) -> None:
    write_classifier(tmp_path / "c", header(class_names=()), Corners(16))
    other = Corners(8)
    other.sharpness.data += 1
    write_classifier(tmp_path / "j", header(class_names=(), image_shape=(8, 8, 1)), other)
    said = called("quadrants:8", tmp_path / "c", config=quick, judge=tmp_path / "j", out=tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["judge"]["accuracy"] >= 0.95 and "independent judge" in said
    assert load_generator(str(tmp_path / "out")).info.class_names == tuple(f"class {k}" for k in range(CLASSES))


def test_a_curve_is_a_generator_for_each_weight(tmp_path: Path, classifier: Path, quick: Path) -> None:
    out = tmp_path / "curve"
    said = called("quadrants:8", classifier, config=quick, regulariser="entropy", curve="0,0.3,3,0.3", out=out)
    found = json.loads((out / "curve.json").read_text())
    assert found["regulariser"] == "entropy"
    assert [point["weight"] for point in found["curve"]] == [0, 0.3, 3]
    diversity = [point["diversity"] for point in found["curve"]]
    accuracy = [point["accuracy"] for point in found["curve"]]
    assert diversity == sorted(diversity) and accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] >= 0.95 > accuracy[2], "the trade-off"
    assert "regulariser entropy" in said and f"{diversity[1]:.3f}" in said
    assert sorted(path.name for path in out.iterdir()) == ["curve.json", "four-0", "four-0.3", "four-3"]
    assert load_generator(str(out / "four-0.3")).info.id == "four-0.3"


# --- what it refuses


def test_the_command_refuses_what_cannot_work(tmp_path: Path, classifier: Path, compact: Path) -> None:
    def refused(
        error: type[Exception], said: str, base: object = "quadrants:8", by: Path = classifier, **o: Any
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error, match=said):
            called(base, by, **{"out": tmp_path / "out", "iterations": 2, **o})
        assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"

    colours = tmp_path / "colours"
    spec = ClassifierSpec(architecture="resnet18", args={"width": 2})
    for path, given in ((colours, {"image_shape": (8, 8, 2)}), (tmp_path / "five", {"classes": 5, "class_names": ()})):
        told = header(architecture="resnet18", args={"width": 2}, **given)
        size, _, channels = told.image_shape
        write_classifier(path, told, build(spec, in_channels=channels, classes=told.classes, image_size=size))
    (tmp_path / "names").write_bytes(b"")
    write_classifier(tmp_path / "names", header(class_names=("w", "x", "y", "z")), Corners(16))

    refused(InvalidValue, "2 classes already.*unconditional", base="quadrants:8,many")
    refused(InvalidValue, "10 classes already", base="fashion-mnist")
    refused(GeneratorNotFound, "'luck'", base="luck")
    refused(NotFound, "no classifier file", by=tmp_path / "nowhere")
    refused(IntegrityError, "cannot be read", by=compact / "card.json")
    refused(InvalidValue, "is there already", out=compact)
    refused(InvalidValue, "inside of", base=compact, out=compact / "new")
    refused(InvalidValue, "judge .*five has other classes", judge=tmp_path / "five")
    refused(InvalidValue, r"judge .* has other classes \(w, x, y, …\)", judge=tmp_path / "names")
    refused(InvalidValue, "the classifier's own weights", judge=classifier)
    refused(InvalidValue, "weight", weight=-1)
    refused(InvalidValue, "nothing to weigh", regulariser="none", weight=1)
    refused(InvalidValue, "regulariser", regulariser="luck")
    refused(InvalidValue, "exclude each other", weight=1, curve="0,1")
    refused(InvalidValue, "not a list of weights", curve="0,much")
    refused(InvalidValue, "no points", curve=",")
    refused(InvalidValue, "something to weigh", regulariser="none", curve="0,1")
    refused(InvalidValue, "not a name", name="not a name")
    refused(InvalidValue, "batch", config=_written(tmp_path / "odd.toml", "batch = 3"))


def test_channels_that_do_not_fit_are_refused(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = quadrants.Quadrants()
    base.info = base.info.model_copy(update={"image_shape": (8, 8, 3)})
    monkeypatch.setattr(conditioning, "load_generator", lambda source, device: base)
    with pytest.raises(InvalidValue, match="takes images of 1 channels and generator 'quadrants' makes 3"):
        called("quadrants:8", classifier, out=tmp_path / "out")
    base.info = base.info.model_copy(update={"differentiable": False})
    with pytest.raises(InvalidValue, match="no gradients"):
        called("quadrants:8", classifier, out=tmp_path / "out")


@pytest.mark.parametrize("where", ["train", "measure", "save_sheet"])
def test_interrupted_it_leaves_nothing(
    tmp_path: Path, classifier: Path, compact: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def press_ctrl_c(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conditioning, where, press_ctrl_c)
    before = sorted(tmp_path.rglob("*"))
    app = typer.Typer()
    app.command()(condition)
    arguments = [str(compact), str(classifier), "--name", "x", "--out", str(tmp_path / "out"), "--iterations", "1"]
    assert CliRunner().invoke(app, [*arguments, "--images", "2"]).exit_code == 130
    assert sorted(tmp_path.rglob("*")) == before


# --- what it reads


@pytest.fixture
def made(tmp_path: Path, classifier: Path, compact: Path) -> Path:
    called(compact, classifier, iterations=2, images=2, out=tmp_path / "made")
    return tmp_path / "made"


def changed(card: Path, **given: Any) -> None:
    card.write_text(json.dumps({**json.loads(card.read_text()), **given}))


def test_tampering_is_refused(made: Path) -> None:
    def refused(error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            load_generator(str(made))

    whole = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}

    def mended() -> None:
        for path, data in whole.items():
            path.write_bytes(data)
        load_generator(str(made))

    data = bytearray(whole[made / WEIGHTS])
    data[-1] ^= 1
    (made / WEIGHTS).write_bytes(data)
    refused(IntegrityError, "sha256")
    mended()
    weights = made / BASE / "generator.safetensors"
    other = {name: t + 1 if t.is_floating_point() else t for name, t in load_file(weights).items()}
    save_file(other, weights)
    refused(IntegrityError, "sha256")
    changed(made / BASE / "card.json", sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    refused(IntegrityError, "the base in .* was made for .*another generator")
    mended()
    changed(made / "card.json", z_dim=13, sha256="0")
    refused(IntegrityError, "sha256")
    mended()
    changed(made / "card.json", format="nonesuch-conditioned-2")
    refused(IntegrityError, "format")
    mended()
    changed(made / "card.json", base={"family": "conditioned", "argument": str(made), "id": "x", "sha256": "0" * 64})
    refused(IntegrityError, "cannot be conditioned itself")
    mended()
    changed(made / "card.json", image_shape=[8, 8, 3])
    refused(InvalidValue, "do not belong together")
    mended()
    changed(made / "card.json", source="somewhere", notes=["for people"])
    load_generator(str(made))
    (made / WEIGHTS).unlink()
    refused(GeneratorNotFound, r"no input\.safetensors")


def test_every_fault_of_the_input_network_is_named(made: Path) -> None:
    tensors = load_file(made / WEIGHTS)
    del tensors["mean.bias"]
    tensors["more"] = torch.zeros(1)
    tensors["width.bias"] = torch.zeros(7)
    tensors["mean.weight"] = torch.full_like(tensors["mean.weight"], torch.nan)
    tensors["trunk.0.bias"] = tensors["trunk.0.bias"].double()
    save_file(tensors, made / WEIGHTS)
    changed(made / "card.json", sha256=hashlib.sha256((made / WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(InvalidValue) as caught:
        load_generator(str(made))
    for fault in ("missing mean.bias", "extra more", "width.bias is (7,), not (12,)", "mean.weight has", "float64"):
        assert fault in str(caught.value)


def test_a_base_that_is_no_longer_unconditional_is_refused(tmp_path: Path, classifier: Path) -> None:
    called("quadrants:8", classifier, iterations=2, images=2, out=tmp_path / "four")
    card = json.loads((tmp_path / "four" / "card.json").read_text())
    changed(tmp_path / "four" / "card.json", base={**card["base"], "argument": "8,many"})
    with pytest.raises(InvalidValue, match="2 classes, not 1"):
        load_generator(str(tmp_path / "four"))
