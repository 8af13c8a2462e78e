"""Copies that overlap with kernels hold what `.cpu()` holds."""

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from nonesuch.labels import Balanced
from nonesuch.orders import Order
from nonesuch.schema import write_batch
from nonesuch.tickets import Ticket
from nonesuch_worker.engine.copy_out import HostCopy, copy_in, copy_out
from nonesuch_worker.generators.load import load_generator
from nonesuch_worker.minting.minter import Minter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]
GPU = torch.device("cuda")
SHAPE = (32, 128, 128, 3)


def images(number: int, work: Tensor) -> Tensor:
    """Images that a long row of kernels stands before, and that are another kernel's memory as soon as it may."""
    for _ in range(20):
        work = work @ work
        work = work / work.norm()
    level = torch.full(SHAPE, number % 251, dtype=torch.uint8, device=GPU)
    return level + torch.arange(SHAPE[2], dtype=torch.uint8, device=GPU)[:, None]


def expected(number: int) -> np.ndarray:
    row = (np.arange(SHAPE[2]) + number % 251).astype(np.uint8)[:, None]
    return np.broadcast_to(row, SHAPE)


def test_many_copies_that_overlap_with_kernels_are_what_cpu_gives() -> None:
    work = torch.randn(1024, 1024, device=GPU)
    pending: list[tuple[int, HostCopy]] = []
    kept = []
    for number in range(300):
        made = images(number, work)
        pending.append((number, copy_out(made)))
        if number % 50 == 0:
            np.testing.assert_array_equal(pending[-1][1].numpy(), made.cpu().numpy())
        del made
        torch.zeros(SHAPE, dtype=torch.uint8, device=GPU)  # would write over it, if its memory were free too early
        if len(pending) == 5:
            first, copied = pending.pop(0)
            found = copied.numpy()
            np.testing.assert_array_equal(found, expected(first))
            if first % 10 == 0:
                kept.append((first, found))
    for first, copied in pending:
        np.testing.assert_array_equal(copied.numpy(), expected(first))
    for first, found in kept:  # no later copy went into their memory
        np.testing.assert_array_equal(found, expected(first))


def test_a_copy_is_started_before_its_kernels_are_through_and_read_in_another_thread() -> None:
    work = torch.randn(4096, 4096, device=GPU)
    copy_out(images(0, work)).numpy()  # warm-up
    copied = copy_out(images(7, work))
    marker = torch.cuda.Event()
    marker.record()
    assert not marker.query()  # nothing was waited for
    found: list[np.ndarray] = []
    reader = threading.Thread(target=lambda: found.append(copied.numpy()))
    reader.start()
    reader.join(60)
    np.testing.assert_array_equal(found[0], expected(7))


def test_arrays_go_in_without_waiting_and_their_memory_may_be_used_again() -> None:
    work = torch.randn(4096, 4096, device=GPU)
    sums = []
    for number in range(100):
        images(number, work)
        z = np.full((64, 128), number, np.float32)
        sums.append(copy_in(z, GPU).sum())
        z[:] = -1
    assert [int(s) for s in sums] == [64 * 128 * number for number in range(100)]


def test_tickets_that_are_joined_late_are_the_same_bytes() -> None:
    generator = load_generator("fashion-mnist", GPU)
    order = Order(generators=("fashion-mnist",), labels=Balanced(classes=tuple(range(10))), count=2048, sink="r")
    minter = Minter([generator], micro_batch=24)
    late = [minter.mint(Ticket(order, number)) for number in range(32)]
    for number, minted in enumerate(late):
        assert write_batch(minted.batch) == write_batch(minter.mint(Ticket(order, number)).batch)
