"""Images from the device to the host, and latents the other way, while the device goes on computing.

    mints    copy_out(images)  starts the copy and returns at once; the next kernels are launched behind it
    reads    copy.numpy()      waits for: this copy ── unblocked by: a stream beside that of the kernels

Every copy has pinned memory of its own, which its reader keeps. There is no pair of buffers that take turns: PyTorch
keeps pinned memory that was freed and hands it out again, but only when the copy into it is through, so a worker has as
many buffers as it has copies in hand, and waits for none. On a CPU there is nothing to copy.

Shapes: B images of (H, W, C).
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nonesuch_worker.finite import IMAGES, require_finite


class HostCopy:
    """Images on their way to the host. Made by `copy_out`; may be read from any thread, and more than once."""

    def __init__(self, host: Tensor, finite: Tensor | None, arrived: torch.cuda.Event | None) -> None:
        self._host = host
        self._finite = finite
        self._arrived = arrived

    def numpy(self) -> NDArray[np.uint8]:
        """The images (B, H, W, C) uint8, the reader's to keep. Blocks until they are there.

        Raises `InvalidValue` when one of them was not finite before it was rounded, and what a kernel that they wait
        for has raised.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        if self._finite is not None:
            require_finite(self._finite, IMAGES)
        images: NDArray[np.uint8] = self._host.numpy()
        return images


def copy_out(images_NHWC: Tensor, finite: Tensor | None = None) -> HostCopy:
    """Start to copy images to the host. Does not block.

    Args:
        images_NHWC: (B, H, W, C) uint8, contiguous; from now on nobody writes to it. What a graph will write to again
            when it is replayed must be cloned first.
        finite: (B,) bool, which of them were finite before they were rounded; who reads the images is told.

    Raises:
        RuntimeError: there is no pinned memory left (CUDA), out of memory.
    """
    if images_NHWC.device.type != "cuda":
        return HostCopy(images_NHWC.cpu(), finite, None)
    beside = _beside(images_NHWC.device)
    pairs = [(x, torch.empty(x.shape, dtype=x.dtype, pin_memory=True)) for x in (images_NHWC, finite) if x is not None]
    beside.wait_stream(torch.cuda.current_stream(images_NHWC.device))
    with torch.cuda.stream(beside):
        for x, host in pairs:
            host.copy_(x, non_blocking=True)
            x.record_stream(beside)  # its memory is not handed out again before it was read
        arrived = beside.record_event()
    return HostCopy(pairs[0][1], None if finite is None else pairs[1][1], arrived)


def copy_in(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array on the device. Does not wait for the kernels that were launched before, as `Tensor.to` alone would.

    On a CPU the tensor shares the array's memory.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    """The stream for copies from a device."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
