"""What is said of a conditioned generator: precision, recall and F1 by hand, diversity against brute force."""

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from nonesuch_worker.condition.measuring import FEWEST, Spread, measure
from nonesuch_worker.condition.scores import scores
from nonesuch_worker.condition.tables import curve_table, diversity_table, scores_table
from nonesuch_worker.generators.base import from_uint8_NHWC, to_uint8_NHWC
from nonesuch_worker.generators.conditioned.card import Card, CardBase, CardClassifier
from nonesuch_worker.generators.conditioned.config import ConditionConfig
from nonesuch_worker.generators.conditioned.loading import ConditionedGenerator
from nonesuch_worker.generators.conditioned.network import InputNetwork
from nonesuch_worker.latents import latents
from tests.helpers.quadrants import CLASSES, Corners, Quadrants

NAMES = ("ant", "bee", "cat", "dog")


def conditioned(base: Quadrants, shift: float = 1.0) -> ConditionedGenerator:
    """Class k has μ = shift in coordinate k and the same σ everywhere: no training."""
    network = InputNetwork(classes=CLASSES, z_dim=6, hidden=CLASSES)
    with torch.no_grad():
        for layer in (network.trunk[0], network.trunk[2]):
            layer.weight.copy_(torch.eye(CLASSES))
            layer.bias.zero_()
        feature = torch.tanh(torch.tanh(torch.tensor(1.0)))  # what the trunk makes of a 1
        network.mean.weight.copy_(shift / feature * torch.eye(6)[:, :CLASSES])
        network.width.bias.fill_(0.0)  # σ = 1/2
    card = Card(
        name="four",
        description="",
        license=base.info.license,
        class_names=NAMES,
        image_shape=base.info.image_shape,
        z_dim=6,
        real_information="none",
        base=CardBase(family="quadrants", argument="8", id="quadrants", sha256=base.info.sha256),
        classifier=CardClassifier(channel="run", version=1, sha256="0" * 64),
        recipe=ConditionConfig(hidden=CLASSES),
        metrics={},
        sha256="1" * 64,
    )
    return ConditionedGenerator(base, network.eval(), card)


def test_scores_by_hand() -> None:
    confusion = np.array([[3, 1, 0, 0], [0, 2, 2, 0], [1, 0, 3, 0], [4, 0, 0, 0]])
    found = scores(confusion, NAMES)
    assert [row.name for row in found.classes] == list(NAMES)
    assert [row.precision for row in found.classes] == pytest.approx([3 / 8, 2 / 3, 3 / 5, 0])
    assert [row.recall for row in found.classes] == pytest.approx([3 / 4, 1 / 2, 3 / 4, 0])
    assert [row.f1 for row in found.classes] == pytest.approx([1 / 2, 4 / 7, 2 / 3, 0])
    assert [row.support for row in found.classes] == [4, 4, 4, 4]
    assert found.accuracy == pytest.approx(8 / 16)
    assert found.macro_precision == pytest.approx((3 / 8 + 2 / 3 + 3 / 5) / 4)
    assert found.macro_recall == pytest.approx(1 / 2)
    assert found.macro_f1 == pytest.approx((1 / 2 + 4 / 7 + 2 / 3) / 4)


def test_distances_are_those_of_all_pairs() -> None:
    base = Quadrants()
    images = torch.randint(0, 256, (30, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 17 + [2] * 12 + [3])
    spread = Spread(CLASSES, base)
    for rows in (slice(0, 10), slice(10, 30)):
        spread.add(images[rows], labels[rows])
    wanted = []
    for k in range(CLASSES):
        x = images[labels == k].flatten(1).double() / 255
        squares = torch.cdist(x, x).square() / 64
        wanted.append(squares[~torch.eye(len(x), dtype=torch.bool)].mean().sqrt() if len(x) > 1 else torch.tensor(0.0))
    torch.testing.assert_close(spread.distances(), torch.stack([w.double() for w in wanted]))
    assert spread.counts.tolist() == [17, 0, 12, 1]


def test_the_report_is_of_the_images_that_are_delivered() -> None:
    base, corners = Quadrants(), Corners().eval()
    generator = conditioned(base)
    told: list[int] = []
    report = measure(generator, corners, None, images=50, seed=7, advance=told.append)
    assert sum(told) == 200 and report.images == 50 and report.judge is None

    labels = torch.arange(200) % CLASSES
    epsilon = torch.from_numpy(latents(7, np.arange(200), 6))
    delivered = to_uint8_NHWC(generator(epsilon, labels))
    seen = corners(from_uint8_NHWC(delivered)).argmax(dim=1)
    assert 0.5 < report.classifier.accuracy < 1
    assert report.classifier.accuracy == pytest.approx(float((seen == labels).double().mean()))
    bee = report.classifier.classes[1]
    assert bee.precision == pytest.approx(float((labels[seen == 1] == 1).double().mean()))

    own = to_uint8_NHWC(base(epsilon, torch.zeros(200, dtype=torch.int64)))
    own_seen = corners(from_uint8_NHWC(own)).argmax(dim=1)
    assert sum(row.base_share for row in report.classes) == pytest.approx(1)
    for k, row in enumerate(report.classes):
        assert row.base_share == pytest.approx(float((own_seen == k).double().mean()))
        variances = [(x[y == k].double() / 255).var(dim=0).mean() for x, y in ((delivered, labels), (own, own_seen))]
        assert row.distance == pytest.approx(float((2 * variances[0]).sqrt()))
        assert row.diversity == pytest.approx(float((variances[0] / variances[1]).sqrt()))
        assert row.sigma == pytest.approx(0.5) and row.shift == pytest.approx(6**-0.5)
    assert report.diversity == pytest.approx(np.mean([row.diversity for row in report.classes]))
    assert report.metrics["sigma"] == pytest.approx(0.5) and "judge_accuracy" not in report.metrics


class Constant(nn.Module):
    """Takes everything for one class."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, 5.0, 0.0, 0.0]).expand(len(x), -1)


def test_the_judge_is_asked_apart() -> None:
    report = measure(conditioned(Quadrants()), Corners().eval(), Constant().eval(), images=20, seed=0)
    assert report.judge is not None and report.judge.accuracy == 0.25
    assert report.metrics["judge_accuracy"] == 0.25 and report.classifier.accuracy > 0.5
    assert [row.recall for row in report.judge.classes] == [0, 1, 0, 0]


def test_without_images_of_its_own_there_is_no_diversity_to_compare_with() -> None:
    report = measure(conditioned(Quadrants()), Constant().eval(), None, images=FEWEST, seed=0)
    assert [row.diversity is None for row in report.classes] == [True, False, True, True]
    assert report.diversity == report.classes[1].diversity
    few = measure(conditioned(Quadrants()), Constant().eval(), None, images=FEWEST // CLASSES - 1, seed=0)
    assert few.diversity is None and "diversity" not in few.metrics
    said = text(diversity_table(few))
    assert "–" in said and "100.0 %" in said


def text(table: object) -> str:
    console = Console(width=120, record=True, quiet=False, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_tables_say_what_the_report_says() -> None:
    report = measure(conditioned(Quadrants()), Corners().eval(), Constant().eval(), images=20, seed=0)
    said = text(scores_table(report.classifier, "classifier"))
    assert f"{report.classifier.accuracy:.3f}" in said and f"{report.classifier.macro_f1:.3f}" in said
    assert all(f"{row.f1:.3f}" in said for row in report.classifier.classes) and "judged by the classifier" in said
    said = text(curve_table([(ConditionConfig(weight=0.25), report)]))
    assert "regulariser entropy" in said and "0.25" in said and f"{report.metrics['diversity']:.3f}" in said


def test_a_sample_depends_on_its_own_latent_and_label() -> None:
    generator = conditioned(Quadrants())
    z = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % CLASSES
    together = generator(z, labels)
    for i in (0, 4, 8):
        assert torch.equal(generator(z[i : i + 1], labels[i : i + 1]), together[i : i + 1])
    assert torch.equal(generator(z, labels, 0.5), together), "the truncation is in z already"
    one = Quadrants()(torch.eye(6)[2:3] + 0.5 * z[2:3], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(together[2:3], one)
