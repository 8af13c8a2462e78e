"""BigGAN's minting form against upstream's own network (at full size: test_engine_biggan_full.py)."""

import pytest
import torch
from pytorch_pretrained_biggan import BigGAN, BigGANConfig
from torch import nn

from nonesuch_worker.engine.biggan import BigGANBlock, MintingBigGAN
from nonesuch_worker.engine.convolutions import TransposedConvolution
from nonesuch_worker.engine.statistics import upstream_compatible
from nonesuch_worker.engine.upsampling import NineProducts
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.biggan.loading import seeded_biggan
from tests.helpers.seeded import z_gradient
from tests.helpers.tiny_biggan import TINY, WIDE, mint, rows, upstream_images

CPU = torch.device("cpu")
GRID = tuple(k / 50 for k in range(1, 51))
"""The truncations that upstream stores statistics for."""
BETWEEN = (0.011, 0.033, 0.15, 0.425, 0.575, 0.999)


def loaded(config: BigGANConfig) -> BigGAN:
    """A model as one is that was loaded: its parameters would take a gradient."""
    return seeded_biggan(config, seed=0).requires_grad_(True)


@pytest.fixture(scope="module", params=[TINY, WIDE], ids=["tiny", "wide"])
def model(request: pytest.FixtureRequest) -> BigGAN:
    return loaded(request.param)


@pytest.fixture(scope="module")
def form(model: BigGAN) -> MintingBigGAN:
    return MintingBigGAN(model, device=CPU, rule=upstream_compatible)


def test_every_truncation_gives_upstream_s_images(model: BigGAN, form: MintingBigGAN) -> None:
    z, labels = rows(model.config, 2)
    pixels = equal = 0
    for truncation in GRID + BETWEEN:
        with torch.no_grad():
            theirs, ours = upstream_images(model, z, labels, truncation), mint(form, z, labels, truncation)
        assert 0.05 < theirs.std() < 0.9, "images that say something"
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0, msg=lambda m, t=truncation: f"{t}: {m}")
        same = to_uint8_NHWC(ours) == to_uint8_NHWC(theirs)
        pixels, equal = pixels + same.numel(), equal + int(same.sum())
    assert equal >= 0.999 * pixels


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.14, 0.425])
def test_gradients_in_z_are_upstream_s(model: BigGAN, form: MintingBigGAN, truncation: float) -> None:
    z, labels = rows(model.config, 16)
    theirs = z_gradient(lambda z: upstream_images(model, z, labels, truncation), z)
    ours = z_gradient(lambda z: mint(form, z, labels, truncation), z)
    assert (theirs.norm(dim=1) > 1).all()
    # Where rounding takes a number to the other side of a ReLU's kink, a sample's gradient jumps, upstream's own too.
    difference = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    assert difference.median() < 1e-5
    assert (difference < 1e-3).float().mean() > 0.8


def test_a_sample_does_not_depend_on_its_batch(model: BigGAN, form: MintingBigGAN) -> None:
    z, labels = rows(model.config, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        together = mint(form, z, labels)
        torch.testing.assert_close(mint(form, z[order], labels[order]), together[order], atol=1e-5, rtol=0)
        for size in (1, 2, 3, 8):
            apart = [mint(form, *both) for both in zip(z.split(size), labels.split(size), strict=True)]
            torch.testing.assert_close(torch.cat(apart), together, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_latents_and_labels_are_left_as_they_are(model: BigGAN, form: MintingBigGAN) -> None:
    z, labels = rows(model.config, 2)
    given, statistics = z.clone(), form.norms.statistics(0.5)
    first = form(z, labels, statistics)
    assert torch.equal(z, given)
    assert torch.equal(statistics, form.norms.statistics(0.5))
    assert torch.equal(form(z, labels, statistics), first)


def test_nothing_takes_a_gradient_but_z(model: BigGAN, form: MintingBigGAN) -> None:
    assert not list(form.parameters())
    assert not any(buffer.requires_grad for buffer in form.buffers())
    assert not form.training
    z, labels = rows(model.config, 2)
    assert not mint(form, z, labels).requires_grad, "without a gradient to find nothing is kept for it"
    with torch.no_grad():
        assert mint(form, z.clone().requires_grad_(), labels).grad_fn is None
    assert mint(form, z.clone().requires_grad_(), labels).requires_grad


def test_the_model_is_only_read() -> None:
    model = loaded(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    form = MintingBigGAN(model, device=CPU)
    z, labels = rows(TINY, 2)
    images = mint(form, z, labels)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert torch.equal(mint(form, z, labels), images), "the form shares no number with it"


def test_upsampling_takes_the_form_that_fits_each_layer() -> None:
    def ups(form: MintingBigGAN) -> list[type[nn.Module]]:
        return [type(layer.first) for layer in form.layers if isinstance(layer, BigGANBlock) and layer.doubles]

    assert ups(MintingBigGAN(loaded(WIDE), device=CPU)) == [NineProducts, TransposedConvolution]
    assert ups(MintingBigGAN(loaded(TINY), device=CPU)) == [TransposedConvolution] * 2


def test_bfloat16_gives_float32_images_that_are_near(model: BigGAN) -> None:
    exact = MintingBigGAN(model, device=CPU)
    half = MintingBigGAN(model, device=CPU, dtype=torch.bfloat16)
    assert {buffer.dtype for buffer in half.layers.buffers()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in half.norms.buffers()} == {torch.float32}
    z, labels = rows(model.config, 4)
    found, wanted = mint(half, z, labels), mint(exact, z, labels)
    assert found.dtype == torch.float32
    difference = (found - wanted).abs()
    assert 1e-5 < difference.mean() < 0.005
    assert difference.max() < 0.05
    gradient, exact_gradient = (z_gradient(lambda z, f=f: mint(f, z, labels), z) for f in (half, exact))
    assert (gradient - exact_gradient).norm() < 0.3 * exact_gradient.norm()
