"""Random numbers without state: every use has a key made of the run's seed, a purpose and where in the run it is.

So a resumed run draws what the undisturbed one would have drawn, and nothing random is in a checkpoint. torch is
imported where it is used: keys are made where there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Purpose = Literal["weights", "images", "classes", "shuffle", "augment", "victims", "subset", "collecting"]


def key(seed: int, purpose: Purpose, *where: int) -> int:
    """A number in [0, 2**63) that is a function of the arguments alone, alike on every machine."""
    text = "/".join(map(str, (purpose, seed, *where)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, purpose: Purpose, *where: int) -> np.random.Generator:
    """numpy's random numbers for one use."""
    return np.random.Generator(np.random.Philox(key(seed, purpose, *where)))


def torch_rng(seed: int, purpose: Purpose, *where: int) -> "torch.Generator":
    """torch's random numbers for one use. On the CPU, so that they are alike for every device."""
    import torch

    return torch.Generator().manual_seed(key(seed, purpose, *where))


@contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic algorithms wherever torch has them, with a warning where it has none. For the same bits twice the
    device and the number of threads have to be the same as well."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it costs time, and is for finding bugs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
