"""What belongs to one process, or one event loop, and is made anew in another: connections, above all.

A process that forks shares its sockets with its child, and then either reads what the other one asked for. An event
loop that has ended leaves sockets that no other loop can wait for.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that `make` makes in the process that asks for it first, and again in each that was forked from it.

    What the parent made is not touched in the child, so nothing of it is closed there. Threads may share it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        """The value of this process."""
        process = os.getpid()
        if process not in self._made:  # no lock: another thread might have held it when the process forked
            self._made.setdefault(process, self._make())
        return self._made[process]


class PerLoop(Generic[T]):
    """A value that `make` makes in the event loop that asks for it first, and again in each other one.

    What a closed loop had is dropped when another one asks. A loop never goes with a fork, so this holds for processes.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def __call__(self) -> T:
        """The value of the event loop that runs."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            for other in [other for other in self._made if other.is_closed()]:
                self._made.pop(other, None)
            self._made[loop] = self._make()
        return self._made[loop]
