"""How many images are made at once: enough to keep the device busy, no more than its memory holds."""

import logging
from collections.abc import Callable
from typing import NoReturn, TypeVar

import torch

from nonesuch.errors import Busy, InvalidValue

log = logging.getLogger(__name__)

T = TypeVar("T")
Shape = tuple[int, int, int]
"""(H, W, C) of an image."""

CPU_PIXELS = 8 * 128 * 128
"""Pixels of a micro-batch on a CPU."""
GPU_PIXELS = 64 * 128 * 128
"""Pixels of a micro-batch on a GPU. Not measured."""

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "status_alloc_failed")
"""What errors for want of memory say: those of PyTorch's allocators (CPU on Linux, on Windows, pinned), of cuBLAS and
of cuDNN. None has a class of its own."""


def best_micro_batch(device: torch.device, image_shape: Shape) -> int:
    """Rows of a micro-batch, at least 1: a rule, not a measurement at start, so that workers on the same hardware cut
    tickets alike. The last bits of an image may depend on how many are made with it."""
    height, width, _ = image_shape
    pixels = CPU_PIXELS if device.type == "cpu" else GPU_PIXELS
    return max(1, pixels // (height * width))


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the host had no memory for what was asked: less may still fit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


class MicroBatches:
    """Cuts rows into micro-batches, into smaller ones for good when memory has run out. Not safe to share.

    The size is one for all images of a shape, and starts as it was given, or as `best_micro_batch` has it.
    """

    def __init__(self, device: torch.device, rows: int | None = None) -> None:
        """`rows` are those of a micro-batch; None takes the best. Raises `InvalidValue` unless it is at least 1."""
        if rows is not None and rows < 1:
            raise InvalidValue(f"micro_batch {rows} must be at least 1 row", field="micro_batch")
        self._device = device
        self._given = rows
        self._halved: dict[Shape, int] = {}

    def rows(self, image_shape: Shape) -> int:
        """The rows of a micro-batch now, for images of a shape."""
        return self._halved.get(image_shape) or self._given or best_micro_batch(self._device, image_shape)

    def cut(self, n: int, image_shape: Shape, make: Callable[[slice], T], *, fixed: bool = False) -> list[T]:
        """What `make` makes of each micro-batch of n rows, from the first row on.

        When it runs out of memory it is called again with the first half of the same rows. What was made before is
        kept.

        Args:
            n: how many rows.
            image_shape: of the images.
            make: makes some rows.
            fixed: take micro-batches of `best_micro_batch` rows whatever was given or has run out of memory before,
                and never smaller ones: for rows that are other ones when their last bits differ.

        Raises:
            Busy: there is no memory for a single row, or for a fixed micro-batch. Another worker may have it.
        """
        made: list[T] = []
        start = 0
        while start < n:
            size = best_micro_batch(self._device, image_shape) if fixed else self.rows(image_shape)
            rows = slice(start, min(start + size, n))
            try:
                made.append(make(rows))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                why = str(error) or type(error).__name__
            else:
                start = rows.stop
                continue
            # Not in the handler: there the error's traceback still holds all that was allocated.
            if fixed:
                self._give_up(rows.stop - rows.start, image_shape, why)
            self._halve(rows.stop - rows.start, image_shape, why)
        return made

    def _give_up(self, failed: int, image_shape: Shape, why: str) -> NoReturn:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        what = "a single image" if failed == 1 else f"{failed} images, which are always made together,"
        raise Busy(
            f"no memory for {what} of {_named(image_shape)} on {self._device} ({why.splitlines()[0]}): host fewer "
            "generators here, end what else takes memory, or start a worker with more of it"
        )

    def _halve(self, failed: int, image_shape: Shape, why: str) -> None:
        if failed == 1:
            self._give_up(failed, image_shape, why)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        shape, why = _named(image_shape), why.splitlines()[0]
        rows = failed // 2
        log.log(
            logging.DEBUG if self._halved else logging.WARNING,
            "out of memory with a micro-batch of %d images of %s (%s): from now on %d; NONESUCH_MICRO_BATCH=%d makes a "
            "worker start with that",
            failed, shape, why, rows, rows,
        )  # fmt: skip
        self._halved[image_shape] = rows


def _named(shape: Shape) -> str:
    return "×".join(map(str, shape))
