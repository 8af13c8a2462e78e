"""How many images are made at once, and what happens when there is no memory for them."""

import gc
import logging
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nonesuch.errors import Busy, InvalidValue
from nonesuch_worker.engine.micro_batches import (
    CPU_PIXELS,
    GPU_PIXELS,
    MicroBatches,
    best_micro_batch,
    is_out_of_memory,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = (16, 16, 1)


def out_of_memory() -> RuntimeError:
    """What the CPU's allocator really raises."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    return RuntimeError(str(caught.value))


class Small:
    """Makes up to so many rows at a time."""

    def __init__(self, rows: int, error: Callable[[], Exception] = out_of_memory) -> None:
        self.rows = rows
        self.error = error
        self.calls: list[tuple[int, int]] = []

    def __call__(self, rows: slice) -> list[int]:
        self.calls.append((rows.start, rows.stop))
        if rows.stop - rows.start > self.rows:
            raise self.error()
        return list(range(rows.start, rows.stop))


@pytest.mark.parametrize("side", [28, 64, 128, 256, 512, 4096])
def test_the_best_is_so_many_pixels_and_at_least_one_row(side: int) -> None:
    for device, pixels in ((CPU, CPU_PIXELS), (GPU, GPU_PIXELS)):
        rows = best_micro_batch(device, (side, side, 3))
        assert rows >= 1 and (rows == 1 or rows * side * side <= pixels)
        assert (rows + 1) * side * side > pixels
        assert rows == best_micro_batch(device, (side, side, 1))


def test_rows_are_cut_from_the_first_by_what_was_given_or_the_best() -> None:
    make = Small(100)
    assert MicroBatches(CPU, 3).cut(8, SHAPE, make) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert make.calls == [(0, 3), (3, 6), (6, 8)]
    best = best_micro_batch(CPU, (128, 128, 3))
    batches = MicroBatches(CPU).cut(2 * best + 1, (128, 128, 3), Small(best))
    assert [len(b) for b in batches] == [best, best, 1]
    assert MicroBatches(CPU).cut(0, SHAPE, make) == []


@pytest.mark.parametrize(
    "error",
    [
        out_of_memory,
        MemoryError,
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:80] . DefaultCPUAllocator: not enough memory: you tried"),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        lambda: RuntimeError("CUDA error: out of memory"),
    ],
)
def test_without_memory_the_same_rows_are_made_in_halves_for_good(error: Callable[[], Exception]) -> None:
    batches, make = MicroBatches(CPU, 8), Small(3, error)
    assert batches.cut(10, SHAPE, make) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert make.calls == [(0, 8), (0, 4), (0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    make.calls.clear()
    batches.cut(4, SHAPE, make)
    assert make.calls == [(0, 2), (2, 4)]


def test_what_was_made_before_the_memory_ran_out_is_kept() -> None:
    batches, make = MicroBatches(CPU, 4), Small(4)
    assert batches.cut(4, SHAPE, make) == [[0, 1, 2, 3]]

    def later(rows: slice) -> list[int]:
        make.rows = 4 if rows.start < 4 else 2
        return make(rows)

    assert batches.cut(8, SHAPE, later) == [[0, 1, 2, 3], [4, 5], [6, 7]]


def test_a_remainder_is_halved_from_its_own_size_and_other_shapes_keep_theirs() -> None:
    batches, make = MicroBatches(CPU, 64), Small(2)
    assert batches.cut(5, SHAPE, make) == [[0, 1], [2, 3], [4]]
    assert make.calls[:2] == [(0, 5), (0, 2)]
    assert batches.rows(SHAPE) == 2 and batches.rows((8, 8, 1)) == 64


def test_running_out_of_memory_is_said_once_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    batches = MicroBatches(CPU, 8)
    batches.cut(8, SHAPE, Small(1))
    batches.cut(8, (8, 8, 1), Small(4))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1 and len(caplog.records) == 4  # 8 to 4 to 2 to 1, and 8 to 4
    assert "micro-batch of 8 images of 16×16×1" in warnings[0] and "NONESUCH_MICRO_BATCH=4" in warnings[0]
    assert "can't allocate memory" in warnings[0]


def test_no_memory_for_one_row_is_an_error_that_another_worker_may_not_have() -> None:
    make = Small(0)
    with pytest.raises(Busy, match=r"single image of 16×16×1 on cpu .*can't allocate memory.*fewer generators"):
        MicroBatches(CPU, 4).cut(4, SHAPE, make)
    assert make.calls == [(0, 4), (0, 2), (0, 1)]


def test_other_errors_go_through_at_once() -> None:
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        KeyError("z"),
    ):
        make = Small(0, lambda error=error: error)
        with pytest.raises(type(error)):
            MicroBatches(CPU, 4).cut(4, SHAPE, make)
        assert make.calls == [(0, 4)]
        assert not is_out_of_memory(error)


def test_what_a_failed_pass_had_allocated_is_free_when_it_is_made_again() -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def make(rows: slice) -> int:
        assert not any(ref() is not None for ref in alive)
        big = np.zeros(10)
        alive.append(weakref.ref(big))
        if rows.stop - rows.start > 1:
            raise MemoryError
        return len(big)

    gc.disable()  # references alone must do
    try:
        assert MicroBatches(CPU, 4).cut(2, SHAPE, make) == [10, 10]
    finally:
        gc.enable()


def test_a_size_that_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidValue, match="micro_batch 0 must be at least 1 row"):
        MicroBatches(CPU, 0)
