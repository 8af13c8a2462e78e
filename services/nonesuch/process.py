"""How processes that do tensor work on a CPU must be started, and how they are stopped.

glibc gives large blocks back to the kernel at every `free` and faults them in again page by page at the next
allocation. Keeping them makes BigGAN 1.4 times and training 1.4 to 1.7 times as fast on two cores. OpenMP's threads
spin while they wait for each other; where two processes share the cores, as a trainer and a worker do on one machine,
the waiting threads keep the working ones from their cores. A short spin (libgomp counts turns of a loop) costs a few
per cent alone and saves a third or more of the time there: `benchmarks/sharing.py` measures both. All are read once,
when a process starts: a command that finds them missing starts itself again with them.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CPU_SETTINGS = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592",
    "GOMP_SPINCOUNT": "1000",
}


def ensure_cpu_settings() -> None:
    """Start this program again with the CPU settings; those that are set already stay as they are. Linux only."""
    missing = {name: value for name, value in CPU_SETTINGS.items() if name not in os.environ}
    if sys.platform != "linux" or not missing:
        return
    os.environ.update(missing)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM; the second one interrupts with `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
