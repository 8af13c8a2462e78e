"""Checkpoints: exact, whole or not there, and loaded only by the run that wrote them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.errors import IntegrityError, InvalidValue
from nonesuch.host.files import locked, replacing, write_atomically
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch.smoothed.resident import LabelledImages, ResidentDataset
from nonesuch.smoothed.settings import Skip
from nonesuch.tally import Tally
from nonesuch_trainer.learning.checkpoint import CHECKPOINT, Checkpoint, RunState
from nonesuch_trainer.learning.epoch import learn, make_classifier
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.reporting.events import Events
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Augmented, Minted
from nonesuch_trainer.settings.identity import RunIdentity
from nonesuch_trainer.settings.learning import Evaluate

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    run="run", epochs=4, batch_size=8, classifier=ClassifierSpec(architecture="resnet18", args={"width": 2})
)
ORIGINS = {"generator 'g'": "0" * 64}
RECORD = EpochRecord(
    epoch=1,
    step=3,
    learning_rate=0.1,
    loss=1.5,
    train_accuracy=0.5,
    accuracy=0.25,
    train_s=0.1,
    shares={0: 0.75, 2: 0.25},
)
TALLY = Tally(tried=Counter({2: 9, 0: 4}), wrong_label=Counter({2: 5}), short=Counter({2: 1}))


def dataset() -> ResidentDataset:
    indices = np.arange(24)
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
    return ResidentDataset.of(
        LabelledImages(images, (indices % 3).astype(np.int32), np.full(24, 2**62), indices, indices - 1), CPU
    )


def differing(one: TrainConfig, other: TrainConfig) -> list[str]:
    return RunIdentity.of(one).differences(RunIdentity.of(other))


def network() -> tuple[nn.Module, torch.optim.SGD]:
    model = make_classifier(CONFIG.learning, (8, 8, 1), 3, CPU)
    return model, make_optimiser(model, CONFIG.optimiser)


def epochs(model: nn.Module, optimiser: torch.optim.SGD, resident: ResidentDataset, *which: int) -> None:
    for epoch in which:
        learn(model, optimiser, resident, CONFIG.learning, epoch, lambda done, total: None)


def assert_same(a: ResidentDataset, b: ResidentDataset) -> None:
    for name, tensor in vars(a).items():
        other = getattr(b, name)
        assert tensor is other is None or (torch.equal(tensor, other) and tensor.dtype == other.dtype), name


def config(folder: Path, **given: object) -> TrainConfig:
    return CONFIG.model_copy(update={"out": folder, **given})


def checkpoint(folder: Path, origins: Mapping[str, str] = ORIGINS, **given: object) -> Checkpoint:
    """The checkpoint in a folder, for a run that starts now."""
    of = config(folder, **given)
    return Checkpoint(of.folder / CHECKPOINT, RunIdentity.of(of), origins, *network())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint after one epoch."""
    saved = checkpoint(tmp_path)
    resident = dataset()
    epochs(saved.model, saved.optimiser, resident, 0)
    saved.save(RunState(epoch=1, step=3, history=(RECORD,), resident=resident, tally=TALLY))
    return saved.path


def test_other_real_images_are_refused_with_what_differs(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    real = RealImages(images, np.arange(6, dtype=np.int32) % 2, ("bird", "cat"), "data")
    mine = Fingerprint.taken(real)
    saved = replace(checkpoint(tmp_path), real=mine)
    saved.save(RunState(epoch=1, step=3, history=(), resident=dataset()))
    assert replace(checkpoint(tmp_path), real=mine).load(CPU) is not None
    renamed = Fingerprint.taken(replace(real, class_names=("cat", "zebra")))
    with pytest.raises(InvalidValue, match=r"other real images: no class 'bird' any more; a class 'zebra'.*--fresh"):
        replace(checkpoint(tmp_path), real=renamed).load(CPU)


def test_a_checkpoint_of_an_earlier_version_says_nothing_of_real_images(path: Path) -> None:
    real = RealImages(np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int32), ("a",), "data")
    assert replace(checkpoint(path.parent), real=Fingerprint.taken(real)).load(CPU) is not None


def test_going_on_from_a_checkpoint_gives_the_same_bits(path: Path) -> None:
    undisturbed, its_optimiser = network()
    epochs(undisturbed, its_optimiser, dataset(), 0, 1, 2)

    saved = checkpoint(path.parent)
    state = saved.load(CPU)
    assert state is not None
    epochs(saved.model, saved.optimiser, state.resident, 1, 2)
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(saved.model.state_dict()[name], tensor), name


def test_everything_comes_back(path: Path) -> None:
    state = checkpoint(path.parent).load(CPU)
    assert state is not None
    assert (state.epoch, state.step, state.history, state.tally) == (1, 3, (RECORD,), TALLY)
    assert_same(state.resident, dataset())


def test_soft_labels_come_back(tmp_path: Path) -> None:
    saved = checkpoint(tmp_path)
    taught = replace(dataset(), soft=torch.rand(24, 3).half())
    saved.save(RunState(epoch=0, step=0, history=(), resident=taught))
    state = saved.load(CPU)
    assert state is not None
    assert_same(state.resident, taught)


def test_two_checkpoints_of_one_run_have_names_of_their_own(path: Path) -> None:
    other = replace(checkpoint(path.parent), path=path.with_name("other.safetensors"))
    assert other.load(CPU) is None
    other.save(RunState(epoch=2, step=4, history=(), resident=dataset()))
    other.discard()
    assert path.exists()


def test_without_a_checkpoint_a_run_starts(path: Path) -> None:
    saved = checkpoint(path.parent)
    saved.discard()
    assert saved.load(CPU) is None


def test_a_checkpoint_holds_no_pickle(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert json.loads(header["config"])["run"] == "run"
    assert json.loads(header["history"])[0]["accuracy"] == 0.25


def test_another_config_is_refused_by_what_differs(path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"other values of epochs, seed: .*--fresh"):
        checkpoint(path.parent, seed=1, epochs=9, checkpoint_every=2).load(CPU)


def test_only_what_decides_the_outcome_has_to_be_the_same() -> None:
    def smoothing(**given: object) -> TrainConfig:
        return config(Path("a"), dataset=Minted.model_validate(given))

    assert differing(smoothing(), smoothing(late=Skip(kind="skip"), outage_s=1, ring_slots=2)) == []
    assert differing(smoothing(), config(Path("b"), run="other", device="cuda", evaluate=Evaluate(every=3))) == []
    assert differing(smoothing(teacher={"channel": "a"}), smoothing(teacher={"channel": "b"})) == []
    augmented, elsewhere = (
        config(Path("a"), dataset=Augmented.model_validate({"kind": "augmented", **given}))
        for given in ({}, {"real": {"folder": "b"}, "minted": {"outage_s": 1}})
    )
    assert differing(augmented, elsewhere) == []
    changed = smoothing(replacement=0.25, victims="oldest")
    assert differing(smoothing(), changed) == ["dataset.replacement", "dataset.victims"]


def test_another_generator_is_refused(path: Path) -> None:
    with pytest.raises(InvalidValue, match="generator 'g' with other weights"):
        checkpoint(path.parent, {"generator 'g'": "1" * 64}).load(CPU)


def test_another_teacher_is_refused_and_so_is_none(path: Path, tmp_path: Path) -> None:
    taught = ORIGINS | {"the teacher": "2" * 64}
    with pytest.raises(InvalidValue, match=r"the teacher with other weights .*sha256 none, now 222"):
        checkpoint(path.parent, taught).load(CPU)
    saved = checkpoint(tmp_path, taught)
    saved.save(RunState(epoch=1, step=3, history=(), resident=dataset()))
    with pytest.raises(InvalidValue, match=r"the teacher with other weights .*now none"):
        checkpoint(tmp_path).load(CPU)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "cannot be read"),
        (lambda data: b"", "cannot be read"),
        (lambda data: data.replace(b"nonesuch-train-2", b"nonesuch-train-1"), "not a checkpoint of format"),
        (lambda data: data.replace(b"resident/labels", b"resident/labelz"), "does not fit"),
        (lambda data: data.replace(b"model/fc.bias", b"model/fc.bium"), "does not fit"),
    ],
)
def test_damage_is_reported_with_the_remedy(path: Path, damage: object, message: str) -> None:
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IntegrityError, match=f"(?s){message}.*--fresh"):
        checkpoint(path.parent).load(CPU)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_resumed_run_takes_back_what_it_logged_after_its_checkpoint(tmp_path: Path) -> None:
    later = RECORD.model_copy(update={"epoch": 2})
    with Events(tmp_path, []) as events:
        events.record(RECORD)
        events.record(later.model_copy(update={"loss": 9.0}))
    with Events(tmp_path, [RECORD]) as events:
        events.record(later)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [EpochRecord.model_validate_json(line) for line in lines] == [RECORD, later]
    assert len(list((tmp_path / "events").iterdir())) == 2
    with Events(tmp_path, []):
        assert len(list((tmp_path / "events").iterdir())) == 1  # a fresh start leaves nothing of the old one


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InvalidValue, match="another run is writing"), locked(tmp_path):
        pass
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())
