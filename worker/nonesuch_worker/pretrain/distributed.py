"""Data-parallel pretraining, as torchrun starts it: one process (rank) for each GPU, or several on a CPU.

    torchrun --nproc-per-node=2 -m nonesuch pretrain CONFIG.toml

Every rank draws the random numbers of the whole batch and takes its slice, so a run's data do not depend on how many
ranks share them. Gradients are averaged after each backward pass; as all ranks start from the same seed and take the
same steps, their weights stay equal, bit for bit. Rank 0 alone writes and reports. The output folder must be one that
all ranks see.

The loops, one for each rank, in step: each waits for the others in `World.average` (twice or more an iteration) and in
`World.agree` (once), for as long as rank 0 needs to write.
"""

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from nonesuch.errors import InvalidValue

M = TypeVar("M", bound=nn.Module)

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: longer than rank 0 takes to export."""


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees them."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this rank writes and reports."""
        return self.rank == 0

    def slice_of(self, batch: int) -> slice:
        """This rank's part of a batch.

        Raises:
            InvalidValue: the batch cannot be split evenly, or a rank would get fewer than 2 samples.
        """
        if batch % self.size or batch < 2 * self.size:
            raise InvalidValue(
                f"a batch of {batch} cannot be split evenly over {self.size} processes with 2 or more for each: make "
                "`batch` a multiple of their number, or start another number of them"
            )
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def synchronised(self, network: M) -> M:
        """The network, in place, with BN statistics over all ranks' samples; on a CPU they stay each rank's own."""
        if self.size == 1 or self.device.type != "cuda":
            return network
        converted: M = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted

    def average(self, network: nn.Module) -> None:
        """Replace each gradient of the network by its mean over the ranks."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat.div_(self.size), [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        self.agree((), stop=False)

    def agree(self, losses: Sequence[Tensor], stop: bool) -> tuple[list[float], bool]:
        """What all ranks know at the end of an iteration: the losses' means, and whether any rank was asked to stop."""
        if self.size == 1:
            return [loss.item() for loss in losses], stop
        told = torch.stack((*(loss.detach() for loss in losses), torch.tensor(float(stop), device=self.device)))
        dist.all_reduce(told)
        *sums, stops = told.tolist()
        return [total / self.size for total in sums], stops > 0


def leads() -> bool:
    """Whether this process is alone or torchrun's first."""
    return int(os.environ.get("RANK", 0)) == 0


@contextmanager
def joined(device: Literal["auto", "cpu", "cuda"]) -> Iterator[World]:
    """This process's world: alone, or one of those that torchrun started; a group that is joined already stays.

    Ranks but the first log warnings only.

    Raises:
        InvalidValue: a GPU is asked for and torch sees none, or fewer than there are processes on this machine.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    place = _device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if size == 1 or dist.is_initialized():
        yield World(place, rank, size)
        return
    # The first optimiser imports it. What it captures of a group that is joined already keeps the group's threads after
    # `destroy_process_group`, and at its end Python aborts a process that has such threads.
    importlib.import_module("torch._dynamo")
    log = logging.getLogger(__package__)
    level = log.level
    on_gpu = place.type == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT, device_id=place if on_gpu else None)
    if rank:
        log.setLevel(logging.WARNING)
    try:
        yield World(place, rank, size)
    finally:
        log.setLevel(level)
        dist.destroy_process_group()


def _device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int) -> torch.device:
    """The device that this process trains on; makes a GPU the current one."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidValue("device is 'cuda', but torch sees no GPU here: use 'auto' or 'cpu'", field="device")
    if local_rank >= torch.cuda.device_count():
        raise InvalidValue(
            f"process {local_rank} of this machine has no GPU of its own, there are {torch.cuda.device_count()}: give "
            "torchrun an --nproc-per-node no larger than that, or set `device` to 'cpu'"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
