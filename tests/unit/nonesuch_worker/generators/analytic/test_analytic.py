"""The analytic generator: its posterior against other ways to get it, its gradient, its range, its parameters."""

from statistics import NormalDist

import numpy as np
import pytest
import torch

from nonesuch.errors import InvalidValue
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator, AnalyticParams
from nonesuch_worker.generators.base import to_uint8_NHWC
from nonesuch_worker.latents import latents


def make(**params: object) -> AnalyticGenerator:
    return AnalyticGenerator(AnalyticParams.model_validate(params))


def draw(generator: AnalyticGenerator, n: int, sigma: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % len(generator.info.class_names)
    z = latents(7, np.arange(n), generator.info.z_dim, sigma)
    return generator(torch.from_numpy(z), labels), labels


@pytest.mark.parametrize("sigma", [1.0, 1.7])
def test_posterior_is_bayes_rule_for_densities_of_pixels(sigma: float) -> None:
    generator = make(classes=4, size=4, z_dim=3, separation=1.5)
    x, _ = draw(generator, 40, sigma)
    means = generator(torch.zeros(4, 3), torch.arange(4)).flatten(1).double()
    columns = torch.stack([generator(e[None], torch.tensor([0])).flatten() for e in torch.eye(3)]).double() - means[0]
    # Images fill three dimensions of sixteen: a little noise in all of them makes a density, the same for each class.
    covariance = sigma**2 * columns.T @ columns + 1e-6 * torch.eye(16, dtype=torch.float64)
    log_p = torch.stack(
        [torch.distributions.MultivariateNormal(m, covariance).log_prob(x.flatten(1).double()) for m in means], dim=1
    )
    torch.testing.assert_close(generator.posterior(x, sigma), torch.softmax(log_p, dim=1), atol=2e-3, rtol=0)


def test_posterior_is_calibrated() -> None:
    generator = make(classes=3, z_dim=2, separation=1.5)
    x, labels = draw(generator, 30_000)
    p = generator.posterior(x)[:, 0]
    for low in np.arange(0, 1, 0.2):
        inside = (p >= low) & (p < low + 0.2)
        frequency = (labels[inside] == 0).double().mean().item()
        assert frequency == pytest.approx(p[inside].mean().item(), abs=4 * 0.5 / inside.sum().item() ** 0.5)


@pytest.mark.parametrize(("separation", "sigma"), [(2.0, 1.0), (3.0, 2.0)])
def test_accuracy_of_two_classes_is_the_textbook_s(separation: float, sigma: float) -> None:
    expected = NormalDist().cdf(separation / 2 / sigma)
    assert make(classes=2, separation=separation).bayes_accuracy(sigma) == pytest.approx(expected, abs=0.01)


def test_posterior_survives_the_rounding_to_uint8() -> None:
    generator = make()
    x, _ = draw(generator, 500)
    rounded = to_uint8_NHWC(x).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(generator.posterior(rounded), generator.posterior(x), atol=0.15, rtol=0)


def test_gradient_in_z_is_the_finite_difference() -> None:
    generator = make(channels=3, z_dim=5)
    labels = torch.tensor([3, 8])
    z = torch.zeros(2, 5, requires_grad=True)
    weights = torch.linspace(-1, 1, 3 * 16 * 16).view(3, 16, 16)
    (gradient,) = torch.autograd.grad((generator(z, labels) * weights).sum(), z)
    with torch.no_grad():
        for axis, unit in enumerate(torch.eye(5)):
            step = ((generator(z + unit, labels) - generator(z, labels)) * weights).sum((1, 2, 3))
            torch.testing.assert_close(gradient[:, axis], step, atol=1e-4, rtol=1e-4)


def test_six_standard_deviations_just_fit_into_the_range() -> None:
    generator = make(classes=5, size=8, z_dim=4)
    mean = generator(torch.zeros(5, 4), torch.arange(5)).flatten(1)  # (K, P)
    columns = torch.stack([generator(e[None], torch.tensor([0])).flatten() - mean[0] for e in torch.eye(4)])  # (d, P)
    reach = mean.abs() + 6 * columns.norm(dim=0)
    assert reach.max().item() == pytest.approx(1.0, abs=1e-5)


def test_closest_class_means_are_separation_apart() -> None:
    means = make(classes=20, separation=2.5).means
    assert torch.pdist(means).min().item() == pytest.approx(2.5, rel=1e-5)


def test_same_parameters_same_identity_and_the_seed_changes_the_images() -> None:
    a, again, renamed, other = make(), make(), make(id="b"), make(seed=1)
    assert a.info == again.info
    assert torch.equal(a.means, again.means)
    assert renamed.info.sha256 == a.info.sha256 and renamed.info.id == "b"
    assert other.info.sha256 != a.info.sha256
    assert not torch.equal(other.means, a.means)


def test_describes_itself() -> None:
    info = make(classes=3, size=12, channels=3, z_dim=6).info
    assert (info.family, info.image_shape, info.z_dim, info.max_sigma) == ("analytic", (12, 12, 3), 6, 4.0)
    assert info.class_names == ("class 0", "class 1", "class 2")
    assert info.real_information == "none"


@pytest.mark.parametrize(
    ("argument", "named"),
    [("classes=1", "classes"), ("size=4,z_dim=17", "z_dim 17"), ("width=3", "width"), ("classes", "classes")],
)
def test_refuses_parameters_and_names_them(argument: str, named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        AnalyticParams.parse(argument)


def test_conversion_to_uint8_rounds_clamps_and_turns() -> None:
    x = torch.tensor([-1.2, -1.0, 0.0, 0.004, 1.0, 1.3]).view(1, 1, 2, 3)
    images = to_uint8_NHWC(x)
    assert images.dtype == torch.uint8 and images.shape == (1, 2, 3, 1) and images.is_contiguous()
    assert images.flatten().tolist() == [0, 0, 128, 128, 255, 255]
