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


class HostCopy:
    """Images on their way to the host. Made by `copy_out`; may be read from any thread, and more than once."""

    def __init__(self, host: Tensor, arrived: torch.cuda.Event | None) -> None:
        self._host = host
        self._arrived = arrived

    def numpy(self) -> NDArray[np.uint8]:
        """The images (B, H, W, C) uint8, the reader's to keep. Blocks until they are there.

        Raises what a kernel that they wait for has raised.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        images: NDArray[np.uint8] = self._host.numpy()
        return images


def copy_out(images_NHWC: Tensor) -> HostCopy:
    """Start to copy images to the host. Does not block.

    Args:
        images_NHWC: (B, H, W, C) uint8, contiguous; from now on nobody writes to it. What a graph will write to again
            when it is replayed must be cloned first.

    Raises:
        RuntimeError: there is no pinned memory left (CUDA), out of memory.
    """
    if images_NHWC.device.type != "cuda":
        return HostCopy(images_NHWC.cpu(), None)
    beside = _beside(images_NHWC.device)
    host = torch.empty(images_NHWC.shape, dtype=images_NHWC.dtype, pin_memory=True)
    beside.wait_stream(torch.cuda.current_stream(images_NHWC.device))
    with torch.cuda.stream(beside):
        host.copy_(images_NHWC, non_blocking=True)
        images_NHWC.record_stream(beside)  # its memory is not handed out again before it was read
        arrived = beside.record_event()
    return HostCopy(host, arrived)


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
