"""What only a GPU can show. Run by `make test-gpu`; skipped, with the reason, where there is none."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from nonesuch.classifiers.normalisation import OnGenerated
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.spec import ClassifierSpec, Normalisation
from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.schema import images_of
from nonesuch.tickets import Ticket
from nonesuch_trainer.bna.adaptation import adapt
from nonesuch_trainer.settings.adapting import BNAConfig
from nonesuch_worker.generators.base import Generator
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minting.minter import Minter
from nonesuch_worker.strategies.mining import MiningParams, mine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


def ticket(generator: str) -> Ticket:
    labels = Balanced(classes=tuple(range(10)))
    return Ticket(Order(id="o", generators=(generator,), labels=labels, count=64, sink="r"), 0)


@pytest.mark.parametrize("source", ["fashion-mnist", "analytic:classes=10,size=16"])
def test_a_ticket_made_twice_on_a_gpu_is_the_same_and_close_to_the_cpus(source: str) -> None:
    on_gpu = load_generator(source, torch.device("cuda"))
    minter = Minter([on_gpu])
    first, again = (images_of(minter.mint(ticket(on_gpu.info.id)).batch) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    on_cpu = images_of(Minter([load_generator(source)]).mint(ticket(on_gpu.info.id)).batch)
    difference = np.abs(first.astype(int) - on_cpu.astype(int))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01


def test_mining_on_a_gpu_walks_where_it_walks_on_the_cpu() -> None:
    spec = ClassifierSpec(architecture="resnet18", args={"width": 8})
    torch.manual_seed(0)
    network = build(spec, in_channels=1, classes=10, image_size=28)
    z, labels = torch.randn(32, 96), torch.arange(32) % 10
    found = []
    for place in ("cpu", "cuda"):
        generator = load_generator("fashion-mnist", torch.device(place))
        classifier = OnGenerated(network, Normalisation()).eval().requires_grad_(False).to(place)
        y = labels.to(place)
        found.append(mine(partial(_render, generator, y), classifier, z.to(place), y, MiningParams(eta=0.02)))
    assert (found[1].z.cpu() - found[0].z).abs().max() < 0.01
    assert torch.allclose(found[1].score.cpu(), found[0].score, atol=0.05)


def _render(generator: Generator, labels: Tensor, z: Tensor) -> Tensor:
    return generator(z, labels)


def test_statistics_adapted_on_a_gpu_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    spec = ClassifierSpec(architecture="resnet18", args={"width": 8})
    model = build(spec, in_channels=1, classes=10, image_size=28)
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), dtype=np.uint8)
    on_cpu, on_gpu = (adapt(copy.deepcopy(model).to(d), images, Normalisation(), BNAConfig()) for d in ("cpu", "cuda"))
    for name, sums in on_cpu.layers.items():
        np.testing.assert_allclose(on_gpu.layers[name].moments, sums.moments, rtol=2e-2, atol=1e-3)
