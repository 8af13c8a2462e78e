"""What the two networks and the moving average promise."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nonesuch_worker.networks.attention import SelfAttention
from nonesuch_worker.networks.compact import CompactConfig, CompactGenerator
from nonesuch_worker.networks.spectral import spectral_norm
from nonesuch_worker.pretrain.discriminator import Discriminator, DiscriminatorConfig
from nonesuch_worker.pretrain.ema import Ema, recompute_statistics
from nonesuch_worker.pretrain.randomness import EpochOrder
from tests.helpers.tiny_gan import SMALL


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def inputs(count: int, config: CompactConfig = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_dim, generator=rng), torch.arange(count) % config.classes


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
    network = Discriminator(DiscriminatorConfig(widths=(4, 8)), image_size=8, channels=1, classes=3).eval()
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    scores = network(x, torch.arange(3))
    assert scores.shape == (3,)
    assert scores.unique().numel() == 3


def test_the_normalised_weight_has_a_largest_singular_value_of_one() -> None:
    layer = spectral_norm(nn.Conv2d(4, 6, 3))
    for _ in range(100):
        weight = layer.weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-5)
    layer.eval()
    assert torch.equal(layer.weight, layer.weight), "in eval mode nothing moves"
    plain = nn.Conv2d(4, 6, 3)
    reference = torch.nn.utils.parametrizations.spectral_norm(_copy(plain))
    ours = spectral_norm(_copy(plain))
    ours.load_state_dict(reference.state_dict())
    assert torch.equal(ours.weight, reference.weight), "a step of ours is a step of torch's"


def _copy(layer: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(4, 6, 3)
    copy.load_state_dict(layer.state_dict())
    return copy


def test_the_power_iteration_is_out_of_autocast_s_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = spectral_norm(nn.Linear(16, 8))
    seen: list[bool] = []
    product = torch.mv

    def mv(matrix: Tensor, vector: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return product(matrix, vector)

    monkeypatch.setattr(torch, "mv", mv)
    with torch.autocast("cpu", torch.bfloat16):
        weight = layer.weight
        assert layer(torch.ones(1, 16)).dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    assert len(seen) == 6 and not any(seen)


def test_initial_weights_are_orthogonal_or_small_and_normal() -> None:
    wide = CompactConfig(image_size=8, widths=(64, 64), z_dim=64)
    orthogonal = CompactGenerator(wide).blocks[0].conv1.weight.flatten(1)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(orthogonal @ orthogonal.T, torch.eye(64), atol=1e-5, rtol=0)
    normal = CompactGenerator(wide, "normal").blocks[0].conv1.weight  # type: ignore[union-attr]
    assert normal.std().item() == pytest.approx(0.02, rel=0.03)  # type: ignore[operator]
    judge = Discriminator(DiscriminatorConfig(widths=(64, 64)), image_size=8, channels=1, classes=3, init="normal")
    original = judge.state_dict()["blocks.1.conv1.parametrizations.weight.original"]
    assert original.std().item() == pytest.approx(0.02, rel=0.03)


def test_attention_begins_as_nothing_and_looks_everywhere() -> None:
    layer = SelfAttention(8)
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.gate)
    layer(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().amax(dim=0) > 0).sum() > 4, "one position's output depends on others"
    assert x.grad[1].abs().max() == 0, "of the same image"


@pytest.mark.parametrize("size", [8, 16])
def test_attention_sits_where_it_was_asked_for(size: int) -> None:
    config = CompactConfig(image_size=16, widths=(8, 8, 8), z_dim=6, attention=size)
    network = CompactGenerator(config).eval()
    widths = []
    assert network.attention is not None
    network.attention.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[-1]))
    network(*inputs(2, config))
    judge = Discriminator(
        DiscriminatorConfig(widths=(4, 4, 4), attention=size // 2), image_size=16, channels=1, classes=3
    )
    assert judge.attention is not None
    judge.attention.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[-1]))
    judge(torch.randn(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64))
    assert widths == [size, size // 2]


def test_each_epoch_sees_every_image_once_in_a_new_order() -> None:
    order = EpochOrder(count=12, batch=4, seed=0)
    epochs = [torch.cat([order[epoch * 3 + slot] for slot in range(3)]) for epoch in range(2)]
    assert [epoch.sort().values.tolist() for epoch in epochs] == [list(range(12))] * 2
    assert not torch.equal(*epochs)
    assert torch.equal(EpochOrder(count=12, batch=4, seed=0)[4], epochs[1][4:8]), "however one comes to a step"
