"""Self-attention in a minting form: the textbook's formula, by two ways to compute it."""

from collections.abc import Callable

import pytest
import torch
from pytorch_pretrained_biggan.model import SelfAttn
from torch import Tensor
from torch.nn import functional as F

from nonesuch_worker.engine import attention
from nonesuch_worker.engine.attention import Attention, attend_by_convolutions, attend_by_sdpa
from nonesuch_worker.engine.folding import folded_weight
from nonesuch_worker.networks.attention import SelfAttention
from tests.helpers.seeded import images, some

WAYS = [attend_by_sdpa, attend_by_convolutions]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.mark.parametrize("attend", WAYS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_is_softmax_of_the_unscaled_products(attend: Attend, batch: int) -> None:
    query, key, value = images(batch, 5, 4, 6), images(batch, 5, 2, 3, seed=1), images(batch, 7, 2, 3, seed=2)
    parts = [x.clone().requires_grad_() for x in (query, key, value)]
    found = attend(*parts)
    scores = torch.einsum("bqn,bqm->bnm", parts[0].flatten(2), parts[1].flatten(2))
    assert scores.abs().max() > 3  # a softmax of small scores would hide a scale
    wanted = torch.einsum("bnm,bvm->bvn", scores.exp() / scores.exp().sum(dim=-1, keepdim=True), parts[2].flatten(2))
    wanted = wanted.reshape(batch, 7, 4, 6)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    mixture = some(*wanted.shape, seed=3)
    ours, theirs = (torch.autograd.grad((y * mixture).sum(), parts) for y in (found, wanted))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_both_ways_are_one_for_scores_that_overflow_without_care() -> None:
    query, key, value = 30 * images(2, 8, 8, 8), 30 * images(2, 8, 4, 4, seed=1), images(2, 3, 4, 4, seed=2)
    first, second = (attend(query, key, value) for attend in WAYS)
    assert torch.isfinite(first).all()
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attend", WAYS)
def test_the_layer_is_our_own_family_s(attend: Attend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_by_convolutions", attend)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layer = SelfAttention(16).eval().requires_grad_(False)
    layer.gate.fill_(0.7)
    parts = {name: folded_weight(getattr(layer, name)) for name in ("query", "key", "value", "output")}
    x = images(3, 16, 6, 4)
    found = Attention(**parts, gate=layer.gate, dtype=torch.float32)(x)
    torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)
    assert (found - x).abs().max() > 0.05, "it attends to something"


@pytest.mark.parametrize("attend", WAYS)
def test_the_layer_is_upstream_s(attend: Attend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_by_convolutions", attend)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layer = SelfAttn(16).eval().requires_grad_(False)
    layer.gamma.fill_(0.7)
    for module in layer.children():
        if hasattr(module, "weight_u"):  # vectors of spectral norm that give σ = 1: weights stay as large as they are
            matrix = module.weight_orig.flatten(1)
            module.weight_v.copy_(F.normalize(matrix[0], dim=0))
            module.weight_u.zero_()[0] = 1 / matrix[0].norm()
    x = images(2, 16, 6, 4)
    found = Attention(
        query=folded_weight(layer.snconv1x1_theta),
        key=folded_weight(layer.snconv1x1_phi),
        value=folded_weight(layer.snconv1x1_g),
        output=folded_weight(layer.snconv1x1_o_conv),
        gate=layer.gamma,
        dtype=torch.float32,
    )(x)
    wanted = layer(x.contiguous())
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (found - x).abs().max() > 0.05
