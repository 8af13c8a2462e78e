"""The minting forms on a GPU: upstream's images in float32, a stated error in half precision, gradients in z."""

import copy
from collections.abc import Callable

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from torch import Tensor

from nonesuch_worker.engine.biggan import MintingBigGAN
from nonesuch_worker.engine.compact import MintingCompact
from nonesuch_worker.engine.statistics import upstream_compatible
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.biggan.loading import seeded_biggan
from nonesuch_worker.generators.compact.folder import load_compact
from nonesuch_worker.generators.load import folder_of, packaged
from tests.helpers.tiny_biggan import TINY, WIDE, mint, rows, upstream_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]
GPU = torch.device("cuda")
DEEP_128 = BigGANConfig()
CONFIGS = {"tiny": TINY, "wide": WIDE, "128": DEEP_128}


@pytest.fixture(autouse=True)
def _float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch lets convolutions round their factors to TF32, ten bits of mantissa, unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> BigGAN:
    return seeded_biggan(CONFIGS[request.param], seed=0)


@pytest.fixture(scope="module")
def upstream(model: BigGAN) -> BigGAN:
    return copy.deepcopy(model).to(GPU)


def on_gpu(config: BigGANConfig, count: int = 8) -> tuple[Tensor, Tensor]:
    z, labels = rows(config, count)
    return z.to(GPU), labels.to(GPU)


def form_of(model: BigGAN, dtype: torch.dtype = torch.float32) -> MintingBigGAN:
    return MintingBigGAN(model, device=GPU, dtype=dtype, rule=upstream_compatible)


def sum_gradient(images_of: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Of the sum of all pixels: (B, Z)."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(images_of(z).sum(), z)
    return gradient


@torch.no_grad()
def test_images_are_upstream_s(model: BigGAN, upstream: BigGAN) -> None:
    form, (z, labels) = form_of(model), on_gpu(model.config)
    for truncation in (1.0, 0.5, 0.425, 0.14):
        theirs, ours = upstream_images(upstream, z, labels, truncation), mint(form, z, labels, truncation)
        assert ours.device.type == GPU.type and ours.dtype == torch.float32
        assert theirs.std() > 0.05, "images that say something"
        assert (ours - theirs).abs().max() < 2e-3
        assert (to_uint8_NHWC(ours) == to_uint8_NHWC(theirs)).float().mean() >= 0.999


def test_gradients_in_z_are_upstream_s(model: BigGAN, upstream: BigGAN) -> None:
    form, (z, labels) = form_of(model), on_gpu(model.config)
    theirs = sum_gradient(lambda z: upstream_images(upstream, z, labels, 0.5), z)
    ours = sum_gradient(lambda z: mint(form, z, labels), z)
    # A few samples may differ, where rounding takes a number to the other side of a ReLU's kink.
    difference = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    assert difference.median() < 1e-3


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(model: BigGAN) -> None:
    form, (z, labels) = form_of(model), on_gpu(model.config)
    together = mint(form, z, labels)
    for size in (1, 3):
        apart = [mint(form, *both) for both in zip(z.split(size), labels.split(size), strict=True)]
        torch.testing.assert_close(torch.cat(apart), together, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "largest", "mean"), [(torch.bfloat16, 0.05, 0.006), (torch.float16, 0.01, 0.001)], ids=["bf16", "fp16"]
)
@torch.no_grad()
def test_the_error_of_half_precision(model: BigGAN, dtype: torch.dtype, largest: float, mean: float) -> None:
    z, labels = on_gpu(model.config)
    found, wanted = mint(form_of(model, dtype), z, labels), mint(form_of(model), z, labels)
    assert found.dtype == torch.float32
    difference = (found - wanted).abs()
    assert difference.max() < largest
    assert 1e-6 < difference.mean() < mean


def test_half_precision_has_a_gradient_in_z(model: BigGAN) -> None:
    z, labels = on_gpu(model.config)
    forms = (form_of(model, torch.bfloat16), form_of(model))
    half, exact = (sum_gradient(lambda z, f=f: mint(f, z, labels), z) for f in forms)
    assert (half - exact).norm() < 0.3 * exact.norm()


@pytest.mark.parametrize("name", packaged())
def test_the_shipped_generators(name: str) -> None:
    network, _ = load_compact(folder_of(name))
    form = MintingCompact(network, device=GPU)
    network.to(GPU)
    z = torch.randn(64, network.config.z_dim, generator=torch.Generator().manual_seed(1)).to(GPU)
    labels = (torch.arange(64) % network.config.classes).to(GPU)
    with torch.no_grad():
        wanted, found = network(z, labels), form(z, labels)
    assert (found - wanted).abs().max() < 1e-3
    assert (to_uint8_NHWC(found) == to_uint8_NHWC(wanted)).float().mean() >= 0.999
    ours, theirs = (sum_gradient(lambda z, f=f: f(z, labels), z) for f in (form, network))
    assert ((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).median() < 1e-3
