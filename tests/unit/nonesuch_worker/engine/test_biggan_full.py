"""BigGAN-deep at the sizes that upstream has weights for, with random ones: its network against the minting form."""

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig

from nonesuch_worker.engine.biggan import MintingBigGAN
from nonesuch_worker.engine.statistics import upstream_compatible
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.biggan.loading import seeded_biggan
from tests.helpers.tiny_biggan import mint, rows, upstream_images

CPU = torch.device("cpu")
DEEP_128 = BigGANConfig()
START = [(False, 16, 16), (True, 16, 16), (False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 8), (False, 8, 8)]
END = [(True, 8, 4), (False, 4, 4), (True, 4, 2), (False, 2, 2), (True, 2, 1)]
DEEP_256 = BigGANConfig(output_dim=256, layers=START + END)
DEEP_512 = BigGANConfig(output_dim=512, layers=[*START, *END, (False, 1, 1), (True, 1, 1)])
"""As `pytorch_pretrained_biggan.convert_tf_to_pytorch` has them."""


@pytest.fixture(scope="module")
def deep_128() -> BigGAN:
    return seeded_biggan(DEEP_128, seed=0)


@pytest.fixture(scope="module")
def form_128(deep_128: BigGAN) -> MintingBigGAN:
    return MintingBigGAN(deep_128, device=CPU, rule=upstream_compatible)


def agree(model: BigGAN, form: MintingBigGAN, truncation: float) -> None:
    z, labels = rows(model.config, 1)
    with torch.no_grad():
        theirs, ours = upstream_images(model, z, labels, truncation), mint(form, z, labels, truncation)
    assert ours.shape == (1, 3, model.config.output_dim, model.config.output_dim)
    assert theirs.std() > 0.05, "an image that says something"
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    assert (to_uint8_NHWC(ours) == to_uint8_NHWC(theirs)).float().mean() >= 0.999


@pytest.mark.parametrize("truncation", [1.0, 0.425, 0.14])
def test_128(deep_128: BigGAN, form_128: MintingBigGAN, truncation: float) -> None:
    agree(deep_128, form_128, truncation)


@pytest.mark.parametrize("config", [DEEP_256, pytest.param(DEEP_512, marks=pytest.mark.slow)], ids=["256", "512"])
def test_larger(config: BigGANConfig) -> None:
    model = seeded_biggan(config, seed=0)
    agree(model, MintingBigGAN(model, device=CPU, rule=upstream_compatible), 0.5)


def test_gradient_in_z(deep_128: BigGAN, form_128: MintingBigGAN) -> None:
    z, labels = rows(DEEP_128, 1)
    z.requires_grad_()
    (ours,) = torch.autograd.grad(mint(form_128, z, labels, 0.5).sum(), z)
    (theirs,) = torch.autograd.grad(upstream_images(deep_128, z, labels, 0.5).sum(), z)
    # Not closer: among millions of ReLUs, rounding takes some to the other side of their kink, upstream's own too.
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()


def test_a_sample_does_not_depend_on_its_batch(form_128: MintingBigGAN) -> None:
    z, labels = rows(DEEP_128, 3)
    with torch.no_grad():
        together, turned = mint(form_128, z, labels, 0.5), mint(form_128, z.flip(0), labels.flip(0), 0.5)
        alone = mint(form_128, z[1:2], labels[1:2], 0.5)
    torch.testing.assert_close(turned.flip(0), together, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone[0], together[1], atol=1e-5, rtol=0)


def test_the_error_of_bfloat16(deep_128: BigGAN, form_128: MintingBigGAN) -> None:
    half = MintingBigGAN(deep_128, device=CPU, dtype=torch.bfloat16, rule=upstream_compatible)
    z, labels = rows(DEEP_128, 2)
    with torch.no_grad():
        found, wanted = mint(half, z, labels, 0.5), mint(form_128, z, labels, 0.5)
    assert found.dtype == torch.float32
    difference = (found - wanted).abs()
    assert difference.max() < 0.05  # of 2: measured 0.02
    assert difference.mean() < 0.006  # measured 0.0026
    levels = to_uint8_NHWC(found).int() - to_uint8_NHWC(wanted).int()
    assert (levels == 0).float().mean() > 0.5  # measured 0.67
    assert levels.abs().max() <= 6  # measured 3
