"""Weights with spectral norm divided in, and batch normalisation as one multiply-add."""

from collections.abc import Callable

import pytest
import torch
from pytorch_pretrained_biggan.model import BigGANBatchNorm
from torch import Tensor, nn
from torch.nn import functional as F

from nonesuch_worker.engine.folding import folded_weight
from nonesuch_worker.engine.norms import Affine, Norm, Norms, conditional_norm, plain_norm
from nonesuch_worker.engine.statistics import interpolated, only_row, upstream_compatible
from nonesuch_worker.networks.compact import ConditionalBatchNorm
from nonesuch_worker.networks.spectral import spectral_norm
from tests.helpers.seeded import images, some

EPS = 1e-3
LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(6, 4),
    lambda: nn.Conv2d(6, 4, 1),
    lambda: nn.Conv2d(6, 4, 3, bias=False),
]


def built(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return make().eval().requires_grad_(False)


# --- folding


def applied(layer: nn.Module) -> Tensor:
    """The weight that a forward pass used, by the layer's answers."""
    if isinstance(layer, nn.Linear):
        return (layer(torch.eye(6)) - layer(torch.zeros(6))).T
    size = layer.kernel_size[0]
    one_hot = torch.eye(6 * size * size).view(-1, 6, size, size)
    return (layer(one_hot) - layer(torch.zeros_like(one_hot[:1]))).flatten(1).T.reshape(4, 6, size, size)


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize(
    "normalise", [None, nn.utils.spectral_norm, spectral_norm], ids=["plain", "upstream's", "ours"]
)
def test_a_folded_weight_is_the_one_that_acts(
    make: Callable[[], nn.Module], normalise: Callable[[nn.Module], nn.Module] | None
) -> None:
    layer = built(lambda: normalise(make()) if normalise else make())
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    found = folded_weight(layer)
    torch.testing.assert_close(found, applied(layer), atol=1e-6, rtol=1e-6)
    assert not found.requires_grad
    assert all(torch.equal(tensor, state[name]) for name, tensor in layer.state_dict().items())
    if normalise:
        assert (found - built(make).weight).abs().max() > 0.01, "a weight as it was drawn has another norm than 1"


def test_upstream_s_weight_is_found_before_it_ever_ran() -> None:
    layer = built(lambda: nn.utils.spectral_norm(nn.Linear(6, 4)))
    layer.weight_orig *= 3  # as when a checkpoint is loaded: the attribute `weight` is still of the old one
    layer.weight_v.copy_(F.normalize(some(6), dim=0))
    assert not torch.allclose(layer.weight, folded_weight(layer))
    before = folded_weight(layer)
    layer(torch.zeros(1, 6))
    torch.testing.assert_close(before, layer.weight, atol=0, rtol=1e-6)


def test_our_weight_is_not_read_in_train_mode() -> None:
    layer = spectral_norm(nn.Linear(6, 4)).train()
    with pytest.raises(AssertionError, match="train mode"):
        folded_weight(layer)


# --- norms


def one(norm: Norm, *, eps: float, condition: Tensor, truncation: float = 1.0) -> Affine:
    norms = Norms([norm], eps=eps, rule=only_row if len(norm.means) == 1 else upstream_compatible, dtype=torch.float32)
    (affine,) = norms(condition, norms.statistics(truncation))
    return affine


def answer(affine: Affine, x: Tensor) -> Tensor:
    return x * affine.gain + affine.bias


@pytest.fixture
def x() -> Tensor:
    return images(3, 5, 4, 4)


def test_it_is_batch_normalisation(x: Tensor) -> None:
    norm = nn.BatchNorm2d(5, eps=EPS).eval().requires_grad_(False)
    norm.weight.copy_(some(5, seed=1))
    norm.bias.copy_(some(5, seed=2))
    norm.running_mean.copy_(some(5, seed=3))
    norm.running_var.copy_(some(5, seed=4).square())
    ours = plain_norm(norm.weight, norm.bias, norm.running_mean[None], norm.running_var[None], condition=6)
    affine = one(ours, eps=EPS, condition=some(3, 6))
    torch.testing.assert_close(answer(affine, x), norm(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(affine.relu(x), F.relu(norm(x)), atol=1e-5, rtol=1e-5)


def test_it_is_our_conditional_batch_normalisation(x: Tensor) -> None:
    norm = built(lambda: ConditionalBatchNorm(5, 6))
    assert isinstance(norm, ConditionalBatchNorm)
    norm.norm.running_mean.copy_(some(5, seed=3))
    norm.norm.running_var.copy_(some(5, seed=4).square())
    condition = some(3, 6, seed=5)
    ours = conditional_norm(
        norm.gain.weight, norm.bias.weight, norm.norm.running_mean[None], norm.norm.running_var[None]
    )
    affine = one(ours, eps=norm.norm.eps, condition=condition)
    torch.testing.assert_close(answer(affine, x), norm(x, condition), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("truncation", [1.0, 0.5, 0.58, 0.437])
@pytest.mark.parametrize("conditional", [True, False])
def test_it_is_upstream_s_batch_normalisation(x: Tensor, conditional: bool, truncation: float) -> None:
    norm = built(lambda: BigGANBatchNorm(5, condition_vector_dim=6, eps=EPS, conditional=conditional))
    assert isinstance(norm, BigGANBatchNorm)
    norm.running_means.copy_(some(51, 5, seed=3))
    norm.running_vars.copy_(some(51, 5, seed=4).square())
    condition = some(3, 6, seed=5)
    if conditional:
        weights = folded_weight(norm.scale), folded_weight(norm.offset)
        ours = conditional_norm(*weights, norm.running_means, norm.running_vars)
    else:
        norm.weight.copy_(some(5, seed=1))
        norm.bias.copy_(some(5, seed=2))
        ours = plain_norm(norm.weight, norm.bias, norm.running_means, norm.running_vars, condition=6)
    affine = one(ours, eps=EPS, condition=condition, truncation=truncation)
    torch.testing.assert_close(answer(affine, x), norm(x, truncation, condition), atol=1e-4, rtol=1e-4)


def test_several_norms_come_of_one_product_in_their_order(x: Tensor) -> None:
    widths = (5, 2, 7)
    given = [
        conditional_norm(some(w, 6, seed=w), some(w, 6, seed=w + 1), some(51, w), some(51, w).square()) for w in widths
    ]
    norms = Norms(given, eps=EPS, rule=interpolated, dtype=torch.float32)
    condition = some(3, 6, seed=9)
    assert norms.statistics(0.3).shape == (2, 14)
    found = norms(condition, norms.statistics(0.3))
    assert [affine.gain.shape for affine in found] == [(3, w, 1, 1) for w in widths]
    for norm, affine in zip(given, found, strict=True):
        alone = Norms([norm], eps=EPS, rule=interpolated, dtype=torch.float32)
        (wanted,) = alone(condition, alone.statistics(0.3))
        for ours, theirs in zip(affine, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_they_are_computed_in_float32_and_handed_out_in_what_was_asked() -> None:
    given = conditional_norm(some(5, 6), some(5, 6, seed=1), some(1, 5, seed=2), some(1, 5, seed=3).square())
    condition = some(3, 6)
    exact, half = (Norms([given], eps=EPS, rule=only_row, dtype=d) for d in (torch.float32, torch.bfloat16))
    (wanted,), (found,) = (norms(condition, norms.statistics(1.0)) for norms in (exact, half))
    assert torch.equal(found.gain, wanted.gain.bfloat16())
    assert torch.equal(found.bias, wanted.bias.bfloat16())


@pytest.mark.parametrize("batch", [1, 3])
def test_relu_keeps_the_memory_format_and_its_argument(batch: int) -> None:
    affine = Affine(some(batch, 5, 1, 1), some(batch, 5, 1, 1, seed=1))
    x = images(batch, 5, 4, 4)
    before = x.clone()
    assert affine.relu(x).is_contiguous(memory_format=torch.channels_last)
    assert affine.relu(x.contiguous()).is_contiguous()
    assert torch.equal(x, before)


def test_relu_in_place_unless_gradients_are_recorded() -> None:
    affine, x = Affine(some(2, 5, 1, 1), some(2, 5, 1, 1, seed=1)), images(2, 5, 4, 4)
    wanted, before = affine.relu(x), x.clone()
    assert torch.equal(affine.relu_(x), wanted) and torch.equal(x, before)
    with torch.no_grad():
        found = affine.relu_(x)
    assert torch.equal(found, wanted) and found.data_ptr() == x.data_ptr()
