"""torch.compile for a minting form: static shapes, and a cache that outlives the process.

A compiled network is compiled again for every shape that it meets. So rows are handed to it in pieces of 2^k, the
largest first, and there are few shapes: 13 rows are 8, 4 and 1.

On a CPU it does not pay (`benchmarks/generator.py` runs both): the time goes into convolutions that are the same either
way, and the loops that it writes are no faster than the kernels they replace.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.host.files import user_folder

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

Network = Callable[..., Tensor]


def compiled(network: Network) -> Network:
    """A network that is compiled when it is first called, for each number of rows 2^k; takes seconds to minutes then.

    Sets `TORCHINDUCTOR_CACHE_DIR` unless it is set: PyTorch's own choice is a temporary folder.

    Args:
        network: takes z (B, Z) and labels (B,), and further tensors that belong to no row; gives (B, C, H, W).

    Returns:
        one that takes the same and any B ≥ 1.
    """
    os.environ.setdefault(CACHE_VARIABLE, str(cache_folder()))
    fast: Network = torch.compile(network, dynamic=False)

    def run(z: Tensor, labels: Tensor, *shared: Tensor) -> Tensor:
        pieces = [fast(z[rows], labels[rows], *shared) for rows in powers_of_two(len(z))]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    return run


def check_compiler(device: torch.device, env: Mapping[str, str] = os.environ) -> None:
    """Raises `InvalidValue` where `compiled` would find no compiler when it is first called: PyTorch's for a CPU looks
    for one of C++, Triton's for a GPU for one of C."""
    wanted = [env.get("CXX") or "g++"] if device.type == "cpu" else [env["CC"]] if env.get("CC") else ["gcc", "clang"]
    if not any(shutil.which(name, path=env.get("PATH")) for name in wanted):
        raise InvalidValue(
            f"torch.compile needs a compiler, and there is no {' or '.join(wanted)} here: install it, or leave out "
            "`compiled`"
        )


def powers_of_two(rows: int) -> Iterator[slice]:
    """Cut a number of rows into slices of 2^k rows, the largest first, no two of a length."""
    start = 0
    while start < rows:
        length = 1 << ((rows - start).bit_length() - 1)
        yield slice(start, start + length)
        start += length


def cache_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The folder for compiled code if nothing else is said: `nonesuch/inductor` in `$XDG_CACHE_HOME` or `~/.cache`."""
    return user_folder("XDG_CACHE_HOME", ".cache", env) / "nonesuch" / "inductor"
