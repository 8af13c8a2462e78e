"""Conditioning: an input network learns the classes, regularisers keep images apart, and nothing else learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nonesuch.errors import InvalidValue
from nonesuch_worker.condition.regularisers import ModeSeeking, divergence
from nonesuch_worker.condition.training import train
from nonesuch_worker.condition.viewer import Viewer
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.conditioned.network import InputNetwork
from tests.helpers.quadrants import CLASSES, Corners, Quadrants

FAST: dict[str, Any] = {"iterations": 120, "hidden": 32, "lr": 0.005, "batch": 32}


def network_of(z_dim: int = 6, classes: int = 3) -> InputNetwork:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return InputNetwork(classes=classes, z_dim=z_dim, hidden=8)


def images_of(network: InputNetwork, base: Quadrants, count: int = 2000) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(99)
    labels = torch.arange(count) % CLASSES
    mu, sigma = network(labels)
    epsilon = torch.randn(count, base.info.z_dim, generator=rng)
    return base(mu + sigma * epsilon, torch.zeros_like(labels)), labels


# --- the network


def test_it_starts_close_to_the_generator_s_own_latents() -> None:
    mu, sigma = network_of().table()
    assert mu.shape == sigma.shape == (3, 6)
    assert mu.abs().max() == 0
    torch.testing.assert_close(sigma, torch.full((3, 6), 0.880797))


def test_whatever_its_weights_it_stays_among_the_latents() -> None:
    network = network_of()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 30)
        network.width.bias[0] = 1e4  # σ is 1 in float32
    mu, sigma = network.table()
    assert sigma.min() >= 0 and sigma.max() <= 1
    assert mu.norm(dim=1).min() > 1, "it was shortened, not thrown away"
    assert (mu.square() + sigma.square()).sum(dim=1).max() <= 6 + 1e-4


def test_a_short_mean_is_left_alone_and_its_gradient_is_finite() -> None:
    network = network_of()
    with torch.no_grad():
        network.mean.bias.fill_(0.1)
    mu, sigma = network.table()
    torch.testing.assert_close(mu, torch.full((3, 6), 0.1))
    (mu.sum() + sigma.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    torch.testing.assert_close(network.mean.bias.grad, torch.full((6,), 3.0))


# --- the regularisers


def test_the_divergence_is_that_of_the_normal_laws() -> None:
    mu, sigma = torch.tensor([[0.0, 0.0], [0.5, -1.0]]), torch.tensor([[1.0, 1.0], [0.25, 0.8]])
    law, prior = torch.distributions.Normal(mu, sigma), torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(law, prior).sum(dim=1)
    torch.testing.assert_close(divergence(mu, sigma), wanted)
    assert divergence(mu, sigma)[0] == 0
    cross = 0.5 * (mu.square() + sigma.square() + torch.tensor(2 * torch.pi).log()).sum(dim=1)
    torch.testing.assert_close(divergence(mu, sigma), cross - law.entropy().sum(dim=1), msg="−entropy + cross-entropy")


def test_mode_seeking_by_hand() -> None:
    z = torch.tensor([[0.0], [0.0], [2.0], [1.0]])  # pairs 2 and 1 apart
    images = torch.tensor([0.0, 0.0, 1.0, 0.5])[:, None, None, None]  # 1 and 0.5 apart: r₀ = 0.75 / 1.5
    penalty = ModeSeeking(images, z)
    labels = torch.tensor([0, 2, 0, 2])
    torch.testing.assert_close(penalty(images, z, labels), torch.tensor(1.0))
    # class 0 as before, class 2 half as far apart: its ratio is half of r₀
    closer = torch.tensor([0.0, 0.0, 1.0, 0.25])[:, None, None, None]
    torch.testing.assert_close(penalty(closer, z, labels), torch.tensor((1 + 2) / 2))
    same = torch.zeros(4, 1, 1, 1, requires_grad=True)
    assert torch.isfinite(penalty(same, z, labels)), "all alike: large, not infinite"


# --- training


@pytest.mark.parametrize("regulariser", ["none", "entropy", "distance"])
def test_an_input_network_learns_the_classes(regulariser: str) -> None:
    base = Quadrants()
    config = ConditionConfig(**FAST, regulariser=regulariser, weight=None if regulariser == "none" else 0.1)
    told: list[int] = []
    network = train(base, Corners().eval(), CLASSES, config, told.append)
    images, labels = images_of(network, base)
    assert (Corners()(images).argmax(dim=1) == labels).double().mean() >= 0.95
    assert sum(told) == FAST["iterations"]
    assert not network.training and not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(("regulariser", "weights"), [("entropy", (0, 0.1, 1)), ("distance", (0, 0.1, 1))])
def test_more_weight_is_more_diversity(regulariser: str, weights: tuple[float, ...]) -> None:
    base = Quadrants()
    spreads, sigmas = [], []
    for weight in weights:
        config = ConditionConfig(**FAST, regulariser=regulariser, weight=weight)
        network = train(base, Corners().eval(), CLASSES, config)
        images, labels = images_of(network, base)
        spreads.append(float(torch.stack([images[labels == k].var(dim=0).mean() for k in range(CLASSES)]).mean()))
        sigmas.append(float(network.table()[1].mean()))
    assert spreads == sorted(spreads) and spreads[2] > 1.5 * spreads[0]
    assert sigmas == sorted(sigmas)


def test_the_seed_decides_and_global_random_numbers_do_not() -> None:
    def trained(seed: int) -> Tensor:
        config = ConditionConfig(iterations=5, seed=seed, hidden=8)
        return torch.cat(train(Quadrants(), Corners().eval(), CLASSES, config).table())

    state = torch.random.get_rng_state()
    first = trained(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(trained(3), first)
    assert not torch.equal(trained(4), first)


def test_no_gradient_reaches_generator_or_classifier_even_if_they_would_take_one() -> None:
    base, corners = Quadrants(learns=True), Corners().eval()
    before = base.gain.detach().clone()
    train(base, corners, CLASSES, ConditionConfig(iterations=3, regulariser="distance"))
    assert base.gain.requires_grad and base.gain.grad is None and torch.equal(base.gain, before)
    assert corners.sharpness.requires_grad and corners.sharpness.grad is None


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :CLASSES] * torch.inf

    with pytest.raises(InvalidValue, match=r"loss is nan at iteration 1: lower lr 0\.001"):
        train(Quadrants(), Broken().eval(), CLASSES, ConditionConfig())


# --- looking through a change of size


class Recorder(nn.Module):
    """Keeps what it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x.flatten(1)


def test_images_are_shown_at_the_classifier_s_size_nearest_by_default() -> None:
    x = torch.tensor([[-1.0, 0.0], [0.5, 1.0]])[None, None]
    recorder = Recorder()
    Viewer(recorder, (4, 4, 3), ConditionConfig().resample)(x)
    wanted = x[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(recorder.seen, wanted.expand(1, 3, 4, 4)), "each pixel four times, in three equal channels"
    Viewer(recorder, (4, 4, 1), "bilinear")(x)
    assert recorder.seen[0, 0, 0].tolist() == [-1.0, -0.75, -0.25, 0.0]
    Viewer(recorder, (2, 2, 1), "bilinear")(x)
    assert torch.equal(recorder.seen, x)


def test_conditioning_through_a_change_of_size() -> None:
    base = Quadrants(size=12)
    viewer = Viewer(Corners(size=20), (20, 20, 1), "nearest")
    network = train(base, viewer, CLASSES, ConditionConfig(**FAST, regulariser="none"))
    images, labels = images_of(network, base)
    with pytest.raises(AssertionError, match="12"):
        Corners(size=20)(images)
    assert (viewer(images).argmax(dim=1) == labels).double().mean() >= 0.95


# --- the configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = 7", "batch 7 must be even"),
        ("weight = -1", "weight"),
        ('regulariser = "none"\nweight = 0.5', "nothing to weigh"),
        ('regulariser = "luck"', "regulariser"),
        ("speed = 1", "speed"),
        ("batch = ", "not TOML"),
    ],
)
def test_a_wrong_config_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InvalidValue, match=message):
        ConditionConfig.read(tmp_path / "c.toml")


def test_what_is_given_goes_before_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('seed = 4\nregulariser = "distance"\niterations = 9\n')
    config = ConditionConfig.read(tmp_path / "c.toml", iterations=3, weight=None)
    assert (config.seed, config.regulariser, config.iterations, config.strength) == (4, "distance", 3, 0.1)
    assert ConditionConfig(regulariser="none").strength == 0
    with pytest.raises(InvalidValue, match="cannot read"):
        ConditionConfig.read(tmp_path / "nowhere.toml")
