"""A resident dataset in memory that the workers of a DataLoader share with the process that refreshes it."""

import mmap
from dataclasses import replace

import torch
from torch import Tensor

from nonesuch.smoothed.resident import ResidentDataset


def shared(resident: ResidentDataset) -> ResidentDataset:
    """A copy whose images and labels are seen by processes that are started by fork, with what is replaced later.

    torch moves them to /dev/shm by itself when it hands them to processes that are started otherwise.
    """
    return replace(resident, images=_in_shared_memory(resident.images), labels=_in_shared_memory(resident.labels))


def _in_shared_memory(tensor: Tensor) -> Tensor:
    """A copy in anonymous memory, which unlike that of `Tensor.share_memory_` has no limit of its own in containers."""
    memory = mmap.mmap(-1, tensor.numel() * tensor.element_size())
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)
