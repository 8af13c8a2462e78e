"""Pretraining on a tiny scale: exact resume, strict loading, and what the networks promise."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nonesuch.errors import GeneratorNotFound, IntegrityError, InvalidValue
from nonesuch.realdata import RealImages
from nonesuch_worker.generators.compact import CompactConfig, CompactGenerator
from nonesuch_worker.generators.compact_folder import CARD, WEIGHTS, load_compact
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import Discriminator, DiscriminatorConfig
from nonesuch_worker.pretrain.ema import Ema, recompute_statistics
from nonesuch_worker.pretrain.export import export_generator
from nonesuch_worker.pretrain.loop import CHECKPOINT, train
from nonesuch_worker.pretrain.metrics import spread_ratio
from nonesuch_worker.pretrain.randomness import EpochOrder

SMALL = CompactConfig(image_size=8, channels=2, classes=3, z_dim=12, embedding_dim=4, widths=(8, 8, 4))
TINY = PretrainConfig(
    generator=SMALL,
    discriminator=DiscriminatorConfig(widths=(4, 8)),
    iterations=6,
    decay_iterations=2,
    batch=8,
    flip=True,
    n_dis=2,
    standing_batches=2,
    standing_batch=8,
    precision="float32",
    checkpoint_every=100,
    grid_every=2,
    log_every=2,
)


@pytest.fixture
def real() -> RealImages:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8, 2), dtype=np.uint8)
    return RealImages(images, np.arange(30, dtype=np.int32) % 3, ("a", "b", "c"), "noise")


@pytest.fixture
def exported(tmp_path: Path, real: RealImages) -> Path:
    network = CompactGenerator(SMALL)
    return export_generator(network, tmp_path / "g", config=TINY, iterations=0, real=real, metrics={"spread_ratio": 1})


def inputs(count: int, config: CompactConfig = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_dim, generator=rng), torch.arange(count) % config.classes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, real: RealImages, precision: str) -> None:
    config = PretrainConfig.model_validate(TINY.model_dump() | {"precision": precision})
    whole = train(config, real, tmp_path / "whole")
    stopped = train(config, real, tmp_path / "halves", should_stop=lambda done: done == 3)
    assert stopped == tmp_path / "halves" / CHECKPOINT
    halves = train(config, real, tmp_path / "halves")
    assert halves == tmp_path / "halves" / "exports" / "6"
    assert (whole / WEIGHTS).read_bytes() == (halves / WEIGHTS).read_bytes()
    one, other = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "halves"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one), "optimisers, both networks and the average"
    assert train(config, real, tmp_path / "halves") == halves, "a finished run has nothing left to do"


def test_a_signal_stops_with_a_checkpoint(tmp_path: Path, real: RealImages) -> None:
    def press_ctrl_c(done: int) -> bool:
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    handler = signal.getsignal(signal.SIGINT)
    assert train(TINY, real, tmp_path, should_stop=press_ctrl_c).name == CHECKPOINT
    assert signal.getsignal(signal.SIGINT) is handler
    assert train(TINY, real, tmp_path).name == "6"


def test_a_run_leaves_sheets_and_a_card(tmp_path: Path, real: RealImages) -> None:
    folder = train(TINY, real, tmp_path)
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == ["000002.png", "000004.png", "000006.png"]
    with Image.open(tmp_path / "grids" / "000006.png") as sheet:
        assert sheet.size == (12 * 8 * 2, 3 * 8 * 2)
    card = json.loads((folder / CARD).read_text())
    assert card["iterations"] == 6
    assert card["image_shape"] == [8, 8, 2]
    assert card["class_names"] == ["a", "b", "c"]
    assert card["real_information"] == "labelled"
    assert PretrainConfig.model_validate(card["recipe"]) == TINY


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, real: RealImages) -> None:
    train(TINY, real, tmp_path, should_stop=lambda done: True)
    with pytest.raises(InvalidValue, match=r"other values of seed, batch.*--no-resume"):
        train(TINY.model_copy(update={"seed": 7, "batch": 4}), real, tmp_path)
    with pytest.raises(InvalidValue, match="has done 1 iterations, no fewer than the 1 asked for"):
        train(TINY.model_copy(update={"iterations": 1}), real, tmp_path)
    longer = TINY.model_copy(update={"iterations": 7})
    assert train(longer, real, tmp_path).name == "7"
    damaged = (tmp_path / CHECKPOINT).read_bytes()[:-1]
    (tmp_path / CHECKPOINT).write_bytes(damaged)
    with pytest.raises(IntegrityError, match="--no-resume"):
        train(TINY, real, tmp_path)
    assert train(TINY, real, tmp_path, resume=False).name == "6"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": SMALL.model_copy(update={"image_size": 16})}, r"\(8, 8, 2\).*\(16, 16, 2\)"),
        ({"generator": SMALL.model_copy(update={"classes": 4})}, "3 classes, but generator.classes is 4"),
        ({"batch": 31}, "30 images, fewer than one batch of 31"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    tmp_path: Path, real: RealImages, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        train(TINY.model_copy(update=change), real, tmp_path)


def test_divergence_ends_the_run(tmp_path: Path, real: RealImages) -> None:
    with pytest.raises(InvalidValue, match="lower the learning rates"):
        train(TINY.model_copy(update={"generator_lr": 1e38, "discriminator_lr": 1e38}), real, tmp_path)


@pytest.mark.parametrize("spectral", [False, True])
def test_export_and_load_give_the_same_images(tmp_path: Path, real: RealImages, spectral: bool) -> None:
    network = CompactGenerator(SMALL.model_copy(update={"spectral_norm": spectral})).eval()
    export_generator(network, tmp_path, config=TINY, iterations=3, real=real, metrics={})
    loaded, card = load_compact(tmp_path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert card["architecture"]["spectral_norm"] is False
    torch.testing.assert_close(loaded(*inputs(5)), network(*inputs(5)))


def test_a_damaged_byte_is_refused(exported: Path) -> None:
    data = bytearray((exported / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (exported / WEIGHTS).write_bytes(data)
    with pytest.raises(IntegrityError, match="sha256"):
        load_compact(exported)


def test_every_fault_of_the_weights_is_named(exported: Path, real: RealImages) -> None:
    tensors = load_file(exported / WEIGHTS)
    del tensors["norm.bias"]
    tensors["extra"] = torch.zeros(1)
    tensors["output.bias"] = torch.zeros(7)
    tensors["input.bias"] = torch.full_like(tensors["input.bias"], torch.nan)
    tensors["norm.weight"] = tensors["norm.weight"].double()
    save_file(tensors, exported / WEIGHTS)
    card = json.loads((exported / CARD).read_text())
    card["sha256"] = hashlib.sha256((exported / WEIGHTS).read_bytes()).hexdigest()
    (exported / CARD).write_text(json.dumps(card))
    with pytest.raises(InvalidValue) as caught:
        load_compact(exported)
    for fault in ("missing norm.bias", "extra extra", "output.bias is (7,), not (2,)", "input.bias has", "float64"):
        assert fault in str(caught.value)


def test_a_folder_without_a_generator(exported: Path) -> None:
    (exported / CARD).write_text("{}")
    with pytest.raises(IntegrityError, match="not a card"):
        load_compact(exported)
    (exported / CARD).unlink()
    with pytest.raises(GeneratorNotFound, match=r"no card\.json"):
        load_compact(exported)


def test_recomputed_statistics_are_new_and_deterministic() -> None:
    network = CompactGenerator(SMALL).eval()
    before = network(*inputs(4))
    runs = []
    for _ in range(2):
        recompute_statistics(network, batches=3, batch=8, seed=5)
        runs.append(network(*inputs(4)))
    assert not network.training
    assert not torch.allclose(before, runs[0])
    assert torch.equal(*runs)


def test_the_average_trails_the_live_weights() -> None:
    live = CompactGenerator(SMALL)
    ema = Ema(live, decay=0.9)
    start = live.output.weight.detach().clone()
    with torch.no_grad():
        live.output.weight += 1
    ema.update(live, 0)  # warm-up: decay 0.1
    torch.testing.assert_close(ema.average.output.weight, start + 0.9)
    ema.update(live, 10_000)  # decay 0.9: a tenth of the 0.1 that is left
    torch.testing.assert_close(ema.average.output.weight, start + 0.91)


@pytest.mark.parametrize("size", [28, 32])
def test_a_sample_depends_on_nothing_but_itself(size: int) -> None:
    config = CompactConfig(image_size=size, widths=(8, 8, 4), z_dim=6)
    network = CompactGenerator(config)
    recompute_statistics(network, batches=2, batch=16, seed=0)
    z, labels = inputs(9, config)
    together = network(z, labels)
    assert together.shape == (9, 1, size, size)
    assert together.abs().max() <= 1
    torch.testing.assert_close(network(z[3:4], labels[3:4]), together[3:4])
    z.requires_grad_()
    network(z, labels)[3].sum().backward()
    assert z.grad is not None
    assert z.grad[3].abs().min() > 0, "every part of the latent has a say"
    assert z.grad[[0, 8]].abs().max() == 0, "and no other sample's latent has"


def test_the_discriminator_scores_each_pair() -> None:
    network = Discriminator(DiscriminatorConfig(widths=(4, 8)), channels=1, classes=3).eval()
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    scores = network(x, torch.arange(3))
    assert scores.shape == (3,)
    assert scores.unique().numel() == 3


def test_each_epoch_sees_every_image_once_in_a_new_order() -> None:
    order = EpochOrder(count=12, batch=4, seed=0)
    epochs = [torch.cat([order[epoch * 3 + slot] for slot in range(3)]) for epoch in range(2)]
    assert [epoch.sort().values.tolist() for epoch in epochs] == [list(range(12))] * 2
    assert not torch.equal(*epochs)
    assert torch.equal(EpochOrder(count=12, batch=4, seed=0)[4], epochs[1][4:8]), "however one comes to a step"


def test_a_collapsed_generator_has_no_spread(real: RealImages) -> None:
    network = CompactGenerator(SMALL).eval()
    assert spread_ratio(network, real, per_class=10) > 0.01
    with torch.no_grad():
        network.output.weight.zero_()
    assert spread_ratio(network, real, per_class=10) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = ", "not TOML"),
        ("batches = 3", "batches: Extra inputs"),
        ("[generator]\nz_dim = 97", "z_dim 97 does not split into 3"),
        ("[generator]\nimage_size = 30", "use a multiple of 4"),
        ("[discriminator]\nwidths = [1, 1, 1, 1, 1, 1]", "halve an image 5 times"),
    ],
)
def test_a_wrong_config_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(InvalidValue, match=message):
        PretrainConfig.from_toml(tmp_path / "config.toml")


def test_a_config_file_changes_only_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("iterations = 9\n[generator]\nz_dim = 48\n")
    config = PretrainConfig.from_toml(tmp_path / "config.toml")
    assert config == PretrainConfig(iterations=9, generator=CompactConfig(z_dim=48))
    assert config.learning_rates(8) == pytest.approx((2e-4 / 3000, 4e-4 / 3000))
    assert PretrainConfig().learning_rates(0) == (2e-4, 4e-4)


def test_the_command_ends_with_a_message_not_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nonesuch", "pretrain", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "dataset-fashion-mnist" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
