"""The minting form of our own family against the network that was trained."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nonesuch_worker.engine.compact import MintingCompact
from nonesuch_worker.engine.upsampling import NineProducts
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.generators.compact.folder import load_compact
from nonesuch_worker.generators.load import folder_of, packaged
from nonesuch_worker.networks.attention import SelfAttention
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from tests.helpers.seeded import z_gradient

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"image_size": 12, "classes": 4, "z_dim": 9, "embedding_dim": 5, "widths": (16, 12, 8)}
CONFIGS = {
    "plain": {},
    "concat": {"block": "concat"},
    "colour": {"channels": 3},
    "spectral norm": {"spectral_norm": True},
    "attention": {"attention": 6},
    "attention last": {"attention": 12},
    "everything": {"channels": 3, "block": "concat", "spectral_norm": True, "attention": 6},
    "wide": {"widths": (260, 16, 8)},
    "one block": {"widths": (16, 8), "z_dim": 8},
    "from one pixel": {"image_size": 4},
}


def trained(config: CompactConfig) -> CompactGenerator:
    """A generator in which nothing has the value that it starts with."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = CompactGenerator(config)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.3, 1.5)
                if module.affine:
                    nn.init.normal_(module.weight, 1, 0.2)
                    nn.init.normal_(module.bias, std=0.2)
            elif isinstance(module, SelfAttention):
                nn.init.constant_(module.gate, 0.7)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def rows(config: CompactConfig, count: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_dim, generator=rng), torch.arange(count) % config.classes


@pytest.fixture(scope="module", params=CONFIGS)
def network(request: pytest.FixtureRequest) -> CompactGenerator:
    return trained(CompactConfig.model_validate(SMALL | CONFIGS[request.param]))


@pytest.fixture(scope="module")
def form(network: CompactGenerator) -> MintingCompact:
    return MintingCompact(network, device=CPU)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_it_makes_the_same_images(network: CompactGenerator, form: MintingCompact, count: int) -> None:
    z, labels = rows(network.config, count)
    with torch.no_grad():
        wanted, found = network(z, labels), form(z, labels)
    assert 0.05 < wanted.std() < 0.9, "images that say something"
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_its_gradient_in_z_is_the_same(network: CompactGenerator, form: MintingCompact) -> None:
    z, labels = rows(network.config, 16)
    wanted, found = (z_gradient(lambda z, f=f: f(z, labels), z) for f in (network, form))
    # A few samples may differ, where rounding takes a number to the other side of a ReLU's kink.
    difference = (found - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert difference.median() < 1e-5
    assert (difference < 1e-3).float().mean() > 0.8


def test_a_sample_does_not_depend_on_its_batch(form: MintingCompact, network: CompactGenerator) -> None:
    z, labels = rows(network.config, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    together = form(z, labels)
    torch.testing.assert_close(form(z[order], labels[order]), together[order], atol=1e-5, rtol=0)
    for size in (1, 3):
        apart = [form(*both) for both in zip(z.split(size), labels.split(size), strict=True)]
        torch.testing.assert_close(torch.cat(apart), together, atol=1e-5, rtol=0)


def test_nothing_takes_a_gradient_but_z(form: MintingCompact, network: CompactGenerator) -> None:
    assert not list(form.parameters())
    assert not any(buffer.requires_grad for buffer in form.buffers())
    assert not form.training
    z, labels = rows(network.config, 2)
    assert not form(z, labels).requires_grad, "without a gradient to find nothing is kept for it"
    with torch.no_grad():
        assert form(z.requires_grad_(), labels).grad_fn is None
    assert form(z, labels).requires_grad


def test_the_network_is_only_read() -> None:
    network = trained(CompactConfig.model_validate(SMALL | CONFIGS["everything"]))
    plain = trained(CompactConfig.model_validate(SMALL))
    for given in (network, plain):
        before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
        form = MintingCompact(given, device=CPU)
        z, labels = rows(given.config, 2)
        images = form(z, labels)
        after = given.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        for tensor in given.state_dict().values():
            tensor.zero_()
        assert torch.equal(form(z, labels), images), "the form shares no number with it"


def test_wide_networks_upsample_in_nine_products() -> None:
    forms = [
        sum(isinstance(module, NineProducts) for module in MintingCompact(trained(config), device=CPU).modules())
        for config in (CompactConfig.model_validate(SMALL | CONFIGS[name]) for name in ("wide", "plain"))
    ]
    assert forms == [1, 0]


def test_bfloat16_gives_float32_images_that_are_near(network: CompactGenerator, form: MintingCompact) -> None:
    z, labels = rows(network.config, 8)
    found = MintingCompact(network, device=CPU, dtype=torch.bfloat16)(z, labels)
    assert found.dtype == torch.float32
    difference = (found - form(z, labels)).abs()
    assert 1e-5 < difference.mean() < 0.01
    assert difference.max() < 0.1


@pytest.mark.parametrize("name", packaged())
def test_the_shipped_generators(name: str) -> None:
    network, _ = load_compact(folder_of(name))
    form = MintingCompact(network, device=CPU)
    z, labels = rows(network.config, 64)
    wanted, found = network(z, labels), form(z, labels)
    torch.testing.assert_close(found, wanted, atol=5e-5, rtol=0)
    assert (to_uint8_NHWC(found) == to_uint8_NHWC(wanted)).float().mean() >= 0.999
    ours, theirs = (z_gradient(lambda z, f=f: f(z, labels), z) for f in (form, network))
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()
