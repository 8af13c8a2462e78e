"""Pretraining on a GPU. Run by `make test-gpu`; skipped, with the reason, where there is none."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch_worker.generators.compact.folder import CARD, load_compact
from nonesuch_worker.networks.compact import CompactConfig
from nonesuch_worker.networks.spectral import spectral_norm
from nonesuch_worker.pretrain.checkpoint import CHECKPOINT
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import DiscriminatorConfig
from nonesuch_worker.pretrain.loop import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]

CONFIG = PretrainConfig(
    generator=CompactConfig(image_size=16, channels=3, classes=3, z_dim=12, widths=(32, 32, 16), attention=8),
    discriminator=DiscriminatorConfig(widths=(16, 32, 32), attention=8),
    iterations=6,
    decay_iterations=2,
    batch=16,
    n_dis=2,
    flip=True,
    diffaugment=("color", "translation", "cutout"),
    consistency=1.0,
    standing_batches=2,
    standing_batch=16,
)


@pytest.fixture
def real() -> RealImages:
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    return RealImages(images, np.arange(60, dtype=np.int32) % 3, ("a", "b", "c"), "noise")


@pytest.mark.parametrize("compile_it", [False, True], ids=["eager", "compiled"])
def test_a_run_on_a_gpu_stops_and_goes_on_and_its_export_works_anywhere(
    tmp_path: Path, real: RealImages, compile_it: bool
) -> None:
    config = CONFIG.model_copy(update={"compile": compile_it})
    assert train(config, real, tmp_path, should_stop=lambda done: done == 3).name == CHECKPOINT
    folder = train(config, real, tmp_path)
    tensors = load_file(tmp_path / CHECKPOINT)
    assert all(tensor.isfinite().all() and tensor.dtype == torch.float32 for tensor in tensors.values())
    assert 0 < json.loads((folder / CARD).read_text())["metrics"]["spread_ratio"] < 10
    network, _ = load_compact(folder)
    z, y = torch.randn(4, 12), torch.arange(4) % 3
    torch.testing.assert_close(network.cuda()(z.cuda(), y.cuda()).cpu(), network.cpu()(z, y), atol=1e-2, rtol=0)


def test_a_run_begins_as_on_the_cpu(tmp_path: Path, real: RealImages) -> None:
    """The same seed gives the same weights, images and latents; after one step the networks are still close."""
    config = CONFIG.model_copy(update={"precision": "float32", "generator_lr": 1e-6, "discriminator_lr": 1e-6})
    for device in ("cpu", "cuda"):
        train(config.model_copy(update={"device": device}), real, tmp_path / device, should_stop=lambda done: True)
    on_cpu, on_gpu = (load_file(tmp_path / device / CHECKPOINT) for device in ("cpu", "cuda"))
    assert on_cpu.keys() == on_gpu.keys()
    for name, tensor in on_cpu.items():
        if "_adam" not in name:
            torch.testing.assert_close(on_gpu[name], tensor, atol=2e-3, rtol=1e-2, msg=name)


def test_under_autocast_sigma_is_that_of_float32() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(torch.nn.Conv2d(64, 64, 3)).cuda().train()
    other = copy.deepcopy(layer)
    with torch.autocast("cuda", torch.bfloat16):
        weight = layer.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, other.weight)
