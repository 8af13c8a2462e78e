"""Hard sample mining: one step is Eq. 3, samples stay on their sphere and do not see each other."""

from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from nonesuch.classifiers.normalisation import OnGenerated
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.errors import InvalidOrder
from nonesuch.labels import Balanced
from nonesuch.offers import Catalog, WorkerInfo
from nonesuch.orders import Order, SnapshotRef, check_order
from nonesuch_worker.generators.analytic.loading import AnalyticGenerator
from nonesuch_worker.generators.base import Generator, from_uint8_NHWC, to_uint8_NHWC
from nonesuch_worker.generators.compact.folder import load_compact
from nonesuch_worker.generators.load import folder_of, load_generator
from nonesuch_worker.latents import ATTEMPTS, latents
from nonesuch_worker.strategies.base import MintContext
from nonesuch_worker.strategies.hsm import HardSampleMining, HsmParams
from nonesuch_worker.strategies.mining import Mined, MiningParams, mine
from nonesuch_worker.strategies.registry import describe
from tests.helpers import contexts
from tests.helpers.perfect import Posterior, analytic

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedded() -> Generator:
    return load_generator("fashion-mnist")


@pytest.fixture(scope="module")
def network(embedded: Generator) -> OnGenerated:
    """A classifier that has learned a little from the embedded generator's images."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        spec = ClassifierSpec(architecture="resnet18", args={"width": 4})
        classifier = OnGenerated(build(spec, in_channels=1, classes=10, image_size=28), Normalisation())
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.05, momentum=0.9)
    for step in range(30):
        z, y = start(embedded, 32, first=32 * step)
        loss = nn.functional.cross_entropy(classifier(embedded(z, y)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return classifier.eval().requires_grad_(False)


def start(generator: Generator, n: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """n latents and labels."""
    indices = np.arange(first, first + n)
    z = torch.from_numpy(latents(3, indices, generator.info.z_dim))
    return z, torch.from_numpy(indices % len(generator.info.class_names))


def mined(generator: Generator, classifier: nn.Module, z: Tensor, y: Tensor, watch: Any = None, **given: Any) -> Mined:
    return mine(lambda latent: generator(latent, y), classifier, z, y, MiningParams(**given), watch)


def context(
    params: HsmParams,
    classifier: nn.Module | None,
    *generators: Generator,
    n: int = 20,
    teacher: nn.Module | None = None,
    first: int = 0,
) -> MintContext[HsmParams]:
    return contexts.context(params, *generators, seed=3, n=n, first=first, classifier=classifier, teacher=teacher)


# --- parameters


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"eta": 1, "step": "relative"},
        {"eta": 100, "step": "raw"},
        {"steps": 100, "score": "prob", "target": "frozen"},
        {"objective": "entropy", "score": "logit"},
        {"objective": "loss", "weights": [1, 2]},
        {"verify": True, "attempts": 1, "sigma": 1.5},
    ],
)
def test_parameters_that_work(params: dict[str, Any]) -> None:
    HsmParams.model_validate(params)
    jsonschema.validate(params, HsmParams.model_json_schema())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"eta": -0.1}, "above 0"),
        ({"eta": 0}, "above 0"),
        ({"eta": 1.5}, "relative step"),
        ({"eta": 1.5, "step": "relative"}, "relative step"),
        ({"eta": 101, "step": "raw"}, "at most 100"),
        ({"steps": 0}, "at least 1"),
        ({"steps": -3}, "at least 1"),
        ({"steps": 101}, "at most 100"),
        ({"steps": 2.5}, "integer"),
        ({"attempts": 0}, "at least 1"),
        ({"score": "margin"}, "logit"),
        ({"target": "label"}, "frozen"),
        ({"step": "sideways"}, "raw"),
        ({"objective": "entropy", "score": "prob"}, "only objective max_score"),
        ({"objective": "loss", "target": "frozen"}, "only objective max_score"),
        ({"truncation": 0.5, "sigma": 2.0}, "truncation excludes sigma"),
        ({"weights": [1, -1]}, "weights"),
        ({"speed": 1}, "speed"),
    ],
)
def test_parameters_that_cannot_work_are_refused_at_the_border_with_the_reason(
    params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError):
        HsmParams.model_validate(params)
    generator = analytic()
    worker = WorkerInfo(
        id="w", host="", pid=0, device="cpu", started=0, generators=(generator.info,), strategies=describe()
    )
    order = Order(
        generators=("analytic",), strategy="hsm", params=params, labels=Balanced(classes=(0,)), count=1, sink="ring",
        snapshot=SnapshotRef(), teacher=SnapshotRef(channel="teacher"),
    )  # fmt: skip
    with pytest.raises(InvalidOrder, match=reason):
        check_order(order, Catalog(workers=(worker,)))


def test_an_order_that_verifies_needs_a_teacher() -> None:
    worker = WorkerInfo(
        id="w", host="", pid=0, device="cpu", started=0, generators=(analytic().info,), strategies=describe()
    )
    order = Order(
        generators=("analytic",), strategy="hsm", params={"verify": True}, labels=Balanced(classes=(0,)), count=1,
        sink="ring", snapshot=SnapshotRef(),
    )  # fmt: skip
    with pytest.raises(InvalidOrder, match="verify needs a teacher"):
        check_order(order, Catalog(workers=(worker,)))
    assert HsmParams(verify=True).asks_teacher and not HsmParams().asks_teacher


# --- one step, and many


def slope(u: np.ndarray, means: np.ndarray, k: np.ndarray, score: str) -> np.ndarray:
    """(B, d): the gradient of log p[k], or of p[k], at u (B, d), worked out by hand from p ∝ exp(−|u − m|²/2)."""
    away = u[:, None] - means[None]  # (B, K, d)
    p = probabilities(u, means)
    rows = np.arange(len(u))
    log_slope = (p[:, :, None] * away).sum(1) - away[rows, k]
    return log_slope if score == "logit" else p[rows, k, None] * log_slope


def probabilities(u: np.ndarray, means: np.ndarray) -> np.ndarray:
    energy = -((u[:, None] - means[None]) ** 2).sum(-1) / 2
    p = np.exp(energy - energy.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def walked(
    z0: np.ndarray, y: np.ndarray, means: np.ndarray, eta: float, steps: int, score: str, target: str
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 2 and 3 in float64 with the gradient by hand: (z, flips)."""
    z, radius = z0.copy(), np.linalg.norm(z0, axis=1, keepdims=True)
    k = last = probabilities(means[y] + z, means).argmax(1)
    flips = np.zeros(len(z), int)
    for _ in range(steps):
        z = z - eta * slope(means[y] + z, means, k, score)
        z *= radius / np.linalg.norm(z, axis=1, keepdims=True)
        now = probabilities(means[y] + z, means).argmax(1)
        flips += now != last
        last = now
        k = now if target == "live" else k
    return z, flips


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("eta", [0.1, 0.7])
def test_one_raw_step_is_equation_3_in_closed_form(score: str, eta: float) -> None:
    generator = analytic(separation=1.0)
    z, y = start(generator, 64)
    expected, _ = walked(z.double().numpy(), y.numpy(), generator.means.double().numpy(), eta, 1, score, "live")
    found = mined(generator, Posterior(generator), z, y, step="raw", eta=eta, steps=1, score=score)
    assert np.abs(found.z.numpy() - expected).max() < 1e-5
    assert (np.abs(expected - z.numpy()).max(axis=1) > 1e-3).mean() > 0.9  # they went somewhere


def test_one_raw_step_is_equation_3_by_finite_differences_on_the_embedded_generator(network: OnGenerated) -> None:
    exact, _ = load_compact(folder_of("fashion-mnist"))  # as it was trained, not as it mints
    exact.double()
    precise = ClassifierSpec(architecture="resnet18", args={"width": 4})
    classifier = OnGenerated(build(precise, in_channels=1, classes=10, image_size=28), Normalisation()).eval()
    classifier.load_state_dict(network.state_dict())
    classifier.double()
    embedded = load_generator("fashion-mnist")
    z, y = start(embedded, 2)
    eta, h = 0.5, 1e-6
    expected = []
    with torch.no_grad():
        for z0, label in zip(z.double(), y, strict=True):
            k = classifier(exact(z0[None], label[None])).argmax()
            nudged = torch.cat([z0 + h * torch.eye(96), z0 - h * torch.eye(96)])
            scores = torch.cat([classifier(exact(some, label.expand(len(some))))[:, k] for some in nudged.split(32)])
            z1 = z0 - eta * (scores[:96] - scores[96:]) / (2 * h)
            expected.append(z1 * z0.norm() / z1.norm())
    found = mined(embedded, network, z, y, step="raw", eta=eta, steps=1)
    assert (found.z - torch.stack(expected)).abs().max() < 1e-5
    assert (found.z - z).norm(dim=1).min() > 0.01


@pytest.mark.parametrize("score", ["logit", "prob"])
@pytest.mark.parametrize("target", ["frozen", "live"])
def test_a_frozen_target_stays_and_a_live_one_follows_the_prediction(score: str, target: str) -> None:
    generator = analytic(classes=4, z_dim=3, separation=1.5)
    z, y = start(generator, 64)
    means = generator.means.double().numpy()
    expected, flips = walked(z.double().numpy(), y.numpy(), means, 0.2, 12, score, target)
    found = mined(generator, Posterior(generator), z, y, step="raw", eta=0.2, steps=12, score=score, target=target)
    assert np.abs(found.z.numpy() - expected).max() < 1e-4
    assert np.abs(found.flips.numpy() - flips).sum() <= 1  # rounding to float16 may tip one over at the very end
    assert (flips > 0).sum() > 10  # else the two targets would be the same
    p = probabilities(means[y.numpy()] + found.rounded.double().numpy(), means)
    first = probabilities(means[y.numpy()] + z.double().numpy(), means).argmax(1)
    k = p.argmax(1) if target == "live" else first
    said = np.log(p) if score == "logit" else p
    assert np.abs(found.score.numpy() - said[np.arange(64), k]).max() < 1e-5


@pytest.mark.parametrize(
    "step", [{"step": "raw", "eta": 100}, {"step": "raw", "eta": 0.3}, {"eta": 1.0}, {"eta": 0.05}]
)
@pytest.mark.parametrize("objective", ["max_score", "entropy", "loss"])
def test_latents_keep_their_length(
    step: dict[str, Any], objective: str, embedded: Generator, network: nn.Module
) -> None:
    ours = analytic()
    for generator, classifier in ((ours, Posterior(ours)), (embedded, network)):
        z, y = start(generator, 8)
        found = mined(generator, classifier, z, y, **step, steps=10 if generator is ours else 2, objective=objective)
        assert ((found.z.double().norm(dim=1) / z.double().norm(dim=1)) - 1).abs().max() < 1e-6
        assert not torch.equal(found.z, z)


@pytest.mark.parametrize("step", [{"step": "raw", "eta": 0.001}, {"step": "relative", "eta": 0.0005}])
def test_the_score_falls_at_every_small_step(step: dict[str, Any], embedded: Generator, network: nn.Module) -> None:
    ours = analytic(separation=1.5)
    for generator, classifier in ((ours, Posterior(ours)), (embedded, network)):
        z, y = start(generator, 16)
        path: list[Tensor] = []
        mined(generator, classifier, z, y, lambda _, x, s, path=path: path.append(s), **step, steps=8, target="frozen")
        scores = torch.stack(path).gather(2, path[0].argmax(1)[None, :, None].expand(9, -1, -1))[..., 0]  # (9, 16)
        assert (scores[:-1].diff(dim=0) < 0).all()  # the last is of latents rounded to float16


def test_samples_do_not_see_each_other(embedded: Generator, network: nn.Module) -> None:
    ours = analytic()
    for generator, classifier in ((ours, Posterior(ours)), (embedded, network)):
        z, y = start(generator, 64)
        whole = mined(generator, classifier, z, y)
        for i in (0, 17, 63):
            alone = mined(generator, classifier, z[i : i + 1], y[i : i + 1])
            # Sums over a batch of another size may end in other last bits, and five steps pass them on.
            assert (alone.z[0] - whole.z[i]).abs().max() < 1e-4
            assert alone.flips[0] == whole.flips[i]


def test_a_relative_step_is_a_fraction_of_the_latent_s_length() -> None:
    generator = analytic(separation=1.0)
    z, y = start(generator, 32)
    means = generator.means.double().numpy()
    u = means[y.numpy()] + z.double().numpy()
    g = slope(u, means, probabilities(u, means).argmax(1), "logit")
    radius = np.linalg.norm(z.double().numpy(), axis=1, keepdims=True)
    expected = z.double().numpy() - 0.3 * radius * g / np.linalg.norm(g, axis=1, keepdims=True)
    expected *= radius / np.linalg.norm(expected, axis=1, keepdims=True)
    found = mined(generator, Posterior(generator), z, y, step="relative", eta=0.3, steps=1)
    assert np.abs(found.z.numpy() - expected).max() < 1e-5


class Scaled(nn.Module):
    """A linear classifier whose logits are faint, or nothing."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 10, bias=False).requires_grad_(False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.sin(torch.arange(2560.0)).view(10, 256) * factor)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def test_without_a_gradient_a_latent_stays_and_a_faint_one_still_shows_the_way() -> None:
    generator = analytic()
    z, y = start(generator, 8)
    assert torch.allclose(mined(generator, Scaled(0.0), z, y).z, z, rtol=1e-6)
    plain, faint = (mined(generator, Scaled(factor), z, y, target="frozen").z for factor in (1.0, 1e-30))
    assert torch.allclose(plain, faint, atol=1e-4) and not torch.allclose(plain, z, atol=1e-2)


def test_entropy_and_loss_are_mined_upwards(embedded: Generator, network: nn.Module) -> None:
    z, y = start(embedded, 16)
    with torch.no_grad():
        logits = network(embedded(z, y)).double()
    p = logits.softmax(1)
    before = {"entropy": -(p * p.log()).sum(1), "loss": -p.log()[torch.arange(16), y]}
    for objective, expected in before.items():
        found = mined(embedded, network, z, y, objective=objective, eta=0.004, steps=4)
        assert torch.allclose(found.score_before.double(), expected, atol=1e-5)
        up = found.score > found.score_before
        assert up.float().mean() >= 0.9, "all but those that start at a summit"
        assert found.score.mean() > found.score_before.mean()


# --- what mining leaves alone


def test_no_weight_takes_a_gradient_and_the_classifier_stays_in_eval_mode(
    embedded: Generator, network: nn.Module
) -> None:
    z, y = start(embedded, 4)
    network.requires_grad_(True)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        with torch.no_grad():  # as the minter calls
            found = mined(embedded, network, z, y)
            assert not torch.is_grad_enabled()
        assert all(parameter.grad is None for parameter in network.parameters())
    finally:
        network.requires_grad_(False)
    assert not list(embedded.network.parameters())
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(t.requires_grad for t in vars(found).values()) and z.grad is None and not z.requires_grad
    network.classifier.bn1.train()
    with pytest.raises(AssertionError, match="eval mode"):
        mined(embedded, network, z, y)
    network.eval()


def test_s_steps_take_s_plus_one_forward_passes() -> None:
    generator, passes = analytic(), []
    z, y = start(generator, 4)

    class Counting(Posterior):
        def forward(self, x: Tensor) -> Tensor:
            passes.append("classifier")
            return super().forward(x)

    def render(latent: Tensor) -> Tensor:
        passes.append("generator")
        return generator(latent, y)

    mine(render, Counting(generator), z, y, MiningParams(steps=3))
    assert passes == ["generator", "classifier"] * 4


@pytest.mark.parametrize("objective", ["max_score", "entropy", "loss"])
@pytest.mark.parametrize("slope", [1e-30, 1.0, 1e10, 1e20, 1e30, 1e36])
def test_a_raw_step_keeps_the_norm_however_steep_the_gradient_is(slope: float, objective: str) -> None:
    """A steep step ends where the gradient points to, as far from the origin as it began."""
    rng = torch.Generator().manual_seed(1)
    z, w = torch.randn(8, 16, generator=rng), torch.randn(16, 2, generator=rng)
    params = MiningParams(step="raw", objective=objective, eta=100, steps=3)

    def render(latent: Tensor) -> Tensor:  # the value stays small, or the logits would overflow honestly
        return (latent - latent.detach())[:, :, None, None] * slope

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 0, 0] @ w + torch.tensor([0.3, 0.0])

    found = mine(render, Linear().eval(), z, torch.zeros(8, dtype=torch.int64), params)
    assert torch.allclose(found.z.norm(dim=1), z.norm(dim=1), rtol=1e-5)
    if slope >= 1e10:
        direction = -w[:, 0] if objective == "max_score" else w[:, 1] - w[:, 0]
        assert torch.cosine_similarity(found.z, direction.expand(8, 16)).min() > 0.999


# --- the strategy


def test_a_row_can_be_made_again_from_its_latent_without_the_snapshot(embedded: Generator, network: nn.Module) -> None:
    ctx = context(HsmParams(steps=3, eta=0.02), network, embedded, n=8)
    minted = HardSampleMining().mint(ctx)
    assert minted.z is not None and minted.z[0].dtype == np.float16
    z, y = torch.from_numpy(np.stack(minted.z)).float(), torch.from_numpy(ctx.labels).long()
    with torch.no_grad():
        x = embedded(z, y)
        logits = network(x)
    assert np.array_equal(minted.images, to_uint8_NHWC(x).numpy())
    assert minted.score is not None and minted.score.dtype == np.float32
    assert np.allclose(minted.score, logits.amax(1).numpy(), atol=1e-4)
    first, _ = start(embedded, 8)
    with torch.no_grad():
        before = network(embedded(first, y)).amax(1)
    assert minted.score_before is not None and np.allclose(minted.score_before, before.numpy(), atol=1e-4)
    assert minted.score.mean() < minted.score_before.mean()
    assert minted.flips is not None and minted.flips.dtype == np.int16
    assert not minted.tally and minted.attempt is not None and not minted.attempt.any()


class Blind(nn.Module):
    """A teacher that takes one class for another, and agrees with the perfect classifier otherwise."""

    def __init__(self, generator: AnalyticGenerator, never: int) -> None:
        super().__init__()
        self.generator, self.never = generator, never
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.generator.posterior(x).log()
        logits[:, self.never] = -1e9
        return logits


def test_what_the_teacher_does_not_recognise_is_mined_again_from_another_latent() -> None:
    generator = analytic(classes=4, separation=2.0)
    teacher = Posterior(generator)
    params = HsmParams(steps=5, eta=0.1, verify=True, attempts=50)
    ctx = context(params, teacher, generator, n=60, teacher=teacher)
    minted = HardSampleMining().mint(ctx)
    seen = teacher(from_uint8_NHWC(torch.from_numpy(minted.images))).argmax(1)
    assert np.array_equal(seen.numpy(), minted.labels)
    assert np.array_equal(minted.indices, ctx.indices)
    assert minted.attempt is not None and minted.attempt.max() > 0
    assert minted.tally.tried.total() == (minted.attempt + 1).sum()
    assert minted.tally.wrong_label.total() == minted.attempt.sum() and not minted.tally.short
    assert minted.z is not None
    for z, index, attempt in zip(minted.z, minted.indices, minted.attempt, strict=True):
        own = latents(3, np.array([index]), 8, stream=ATTEMPTS + attempt if attempt else 0)
        assert abs(np.linalg.norm(z.astype(float)) / np.linalg.norm(own) - 1) < 1e-3
    unverified = HardSampleMining().mint(context(HsmParams(steps=5, eta=0.1), teacher, generator, n=60))
    taken_at_once = minted.attempt == 0
    assert np.array_equal(minted.images[taken_at_once], unverified.images[taken_at_once])


def test_the_teacher_sees_images_as_they_are_delivered() -> None:
    generator, seen = analytic(), []

    class Teacher(Posterior):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)

    params = HsmParams(steps=1, verify=True)
    HardSampleMining().mint(context(params, Posterior(generator), generator, teacher=Teacher(generator)))
    levels = torch.cat(seen).add(1).mul(127.5)
    assert len(levels) >= 20 and torch.allclose(levels, levels.round(), atol=1e-4)


def test_a_class_that_the_teacher_never_recognises_ends_short() -> None:
    generator = analytic(classes=4, separation=6.0)
    params = HsmParams(steps=1, verify=True, attempts=3)
    ctx = context(params, Posterior(generator), generator, n=40, teacher=Blind(generator, never=2))
    minted = HardSampleMining().mint(ctx)
    assert minted.tally.short == {2: 10} and minted.tally.tried[2] == minted.tally.wrong_label[2] == 30
    assert np.array_equal(minted.indices, ctx.indices[ctx.labels != 2])
    only = HardSampleMining().mint(context(params, Posterior(generator), generator, n=1, first=2, teacher=ctx.teacher))
    assert len(only.images) == 0 and only.score is not None and only.z == []


def test_several_generators_each_mine_their_own_latents() -> None:
    generators = analytic(z_dim=8), analytic(id="wide", z_dim=12, seed=1)
    classifier = Posterior(generators[0])
    ctx = context(HsmParams(weights=(1, 3), steps=2), classifier, *generators, n=40)
    minted = HardSampleMining().mint(ctx)
    assert minted.z is not None and 20 < minted.generator.sum() < 40
    assert [len(z) for z in minted.z] == [8 if g == 0 else 12 for g in minted.generator]
    assert np.array_equal(minted.labels, ctx.labels)
    for i in (0, 1, 2, 3):
        one = HardSampleMining().mint(context(ctx.params, classifier, *generators, n=1, first=i))
        assert one.generator[0] == minted.generator[i]
        assert np.abs(one.images[0].astype(int) - minted.images[i]).max() <= 1
