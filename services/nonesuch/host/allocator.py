"""Whether a process's allocator keeps large blocks: measured, because a variable that is set may have no effect.

    python -m nonesuch.host.allocator    # as a process with this environment: page faults, on two threads, as JSON

A block that was given back to the kernel is faulted in again page by page when it is next used; one that was kept is
not. `process.CPU_SETTINGS` have glibc keep them.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from nonesuch.errors import ServiceError

BLOCK_MB = 64
"""The size of the block in MiB: larger than what glibc keeps without being told to, 32 MiB at most."""
KEPT_FAULTS = 8
"""The most page faults of a block that is kept. One that is not takes 32 at least, even of huge pages (2 MiB)."""
_ROUNDS = 6
_TIMEOUT_S = 30.0


def block_faults() -> int | None:
    """Page faults of the calling thread when it takes, fills and frees a block of 64 MiB: the fewest in a few rounds.

    The fewest, because a kept block too is new at first, and again after a small one has settled in its place. Takes a
    fraction of a second; 64 MiB stay with the process if its allocator keeps them. None off Linux, where faults are not
    counted for a thread.

    Raises:
        MemoryError: there are no 64 MiB.
    """
    if sys.platform != "linux":
        return None
    import resource

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    faults = []
    for _ in range(_ROUNDS):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        block = libc.malloc(BLOCK_MB * 2**20)
        if block is None:
            raise MemoryError(f"no {BLOCK_MB} MiB are free")
        ctypes.memset(block, 1, BLOCK_MB * 2**20)
        libc.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
    return min(faults)


def faults_in(environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    """`block_faults` of a process started with these variables, the others as here: its main thread's, and another's.

    The other one counts too: Ray runs an actor's calls there. Blocks until the process ends.

    Raises:
        ServiceError: it failed.
    """
    command = [sys.executable, "-m", "nonesuch.host.allocator"]
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{' '.join(command)} did not end within {_TIMEOUT_S:.0f} s: run it to see why") from None
    if done.returncode:
        raise ServiceError(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    main, other = json.loads(done.stdout)
    return main, other


if __name__ == "__main__":
    with ThreadPoolExecutor(1) as threads:
        print(json.dumps([block_faults(), threads.submit(block_faults).result()]))
