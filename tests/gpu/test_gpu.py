"""What only a GPU can show. Run by `make test-gpu`; skipped, with the reason, where there is none."""

import numpy as np
import pytest
import torch

from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.schema import images_of
from nonesuch.tickets import Ticket
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minter import Minter

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
    first, again = (images_of(minter.mint(ticket(on_gpu.info.id))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    on_cpu = images_of(Minter([load_generator(source)]).mint(ticket(on_gpu.info.id)))
    difference = np.abs(first.astype(int) - on_cpu.astype(int))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01
