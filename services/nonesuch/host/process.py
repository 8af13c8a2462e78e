"""How processes that do tensor work on a CPU must be started, and how they are stopped.

Allocator: glibc gives large blocks back to the kernel at every `free` and faults them in again page by page at the
next allocation. Keeping them makes BigGAN 1.4 times and training 1.4 to 1.7 times as fast on two cores. It keeps them
in its main arena only; other threads than the first have arenas of their own, from which blocks go back whatever the
thresholds say. Ray runs an actor's calls on such threads: 64 images of 28 px took thousands of page faults there, and
none since there is but one arena. `allocator.py` measures whether blocks are kept.

Spinning: OpenMP's threads spin while they wait for each other. Where two processes share the cores, as a trainer and a
worker do on one machine, those that wait keep those that work from their cores. So the worker, which fills what time
there is, spins shortly (libgomp counts turns of a loop), and the trainer as OpenMP has it: if both spin, both are
slower; if neither does, the trainer is, also when it has the cores alone. `benchmarks/sharing.py` measures all three.

Threads: OMP_NUM_THREADS, which OpenMP, MKL and torch all follow (with MKL up to the physical cores). It is,
in this order

    1. for a worker: its share of its node's cores, or `--threads` (`nonesuch_worker.fleet.fleet.seats`)
       for a Ray task of `nonesuch adapt`: its share of this machine's cores, 1 on a cluster
    2. what the user has set (under torchrun: or else torchrun, which sets 1 where it starts several ranks)
    3. the cores that this process may keep busy, by its affinity and its cgroups' quota (`cores.py`), divided among
       the ranks of this machine

All are read once, when a process starts: a command that finds them missing starts itself again with them, Ray's
processes get them as their runtime environment, and the images of `deploy/Dockerfile` have the allocator's as ENV.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from nonesuch.host.cores import available_cores
from nonesuch.host.stopping import Stopped, Terminated

CPU_SETTINGS = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1",
}
"""Variables of every process that does tensor work on a CPU, and of the gateway, whose batches are large blocks too."""
RAY_SETTINGS = {**CPU_SETTINGS, "GOMP_SPINCOUNT": "1000"}
"""Variables of Ray's processes that do tensor work on a CPU."""
THREADS = "OMP_NUM_THREADS"
STARTED_AGAIN = "NONESUCH_STARTED_AGAIN"
"""The variable that holds the id of a process that has started itself again, so that it does not do it twice."""


def tensor_environment() -> dict[str, str]:
    """The variables that a command doing tensor work must find when it starts: allocator and threads, by the rules
    of this module. What is set here already stays as it is."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun says it
    return {**_unless_set(CPU_SETTINGS), THREADS: os.environ.get(THREADS) or str(max(1, available_cores() // ranks))}


def ray_environment(threads: int) -> dict[str, str]:
    """The variables of a process of Ray's: allocator, spinning, and so many threads, whatever is set here."""
    return {**_unless_set(RAY_SETTINGS), THREADS: str(threads)}


def ensure_cpu_settings() -> None:
    """Start this program again with `tensor_environment()`, unless that is what it has. Linux only.

    Call it before torch is imported: whatever was imported is imported once more.
    """
    wanted = tensor_environment()
    there = all(os.environ.get(name) == value for name, value in wanted.items())
    # Where the loader drops GLIBC_TUNABLES, as for a python with capabilities, it is missing again: once is enough.
    if sys.platform != "linux" or there or os.environ.get(STARTED_AGAIN) == str(os.getpid()):
        return
    os.environ.update(wanted, **{STARTED_AGAIN: str(os.getpid())})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _unless_set(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in settings.items()}


@contextmanager
def on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM; the second one interrupts with `KeyboardInterrupt`.

    A `Stopped` that comes of it is raised as `Terminated` if the signal was SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    asked_by: int | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked_by
        if asked_by is not None:
            raise KeyboardInterrupt
        asked_by = number
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped as stopped:
        if asked_by == signal.SIGTERM:
            raise Terminated from stopped
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
