"""Waiting for a service that has gone away, for so long and not longer."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from nonesuch.effects import Op
from nonesuch.errors import Busy, GeneratorNotFound, NonesuchError, NoWorkers, Occupied, RingClosed, Unreachable
from nonesuch.host.stopping import pause
from nonesuch.link.connection import Link, check_writable

T = TypeVar("T")
Say = Callable[[str], None]

PASSING = (Unreachable, Busy, NoWorkers, GeneratorNotFound, RingClosed)
"""Troubles that pass if somebody looks after the service: one whose Redis was restarted shows them one by one."""
SAY_S = 10.0
"""Seconds between two lines about what is being waited for."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Patience:
    """Runs operations, and waits out the troubles that pass.

    Args:
        outage_s: how long one outage may last.
        stop: ends every wait with `Stopped`.
        say: is told what is waited for, now and then.
    """

    def __init__(self, link: Link, *, outage_s: float, stop: threading.Event, say: Say) -> None:
        self.link, self.say = link, say
        self._outage_s, self._stop = outage_s, stop

    def begin(self) -> None:
        """Look whether Redis is there and takes writes. Only one that is busy with itself is waited for: what else is
        wrong at the start is better said at once. Raises `Unreachable`, `Refused`, `Stopped`.
        """
        self.run(partial(check_writable, self.link.keys), passing=(Occupied,))

    def run(
        self,
        make: Callable[[], Op[T]],
        on_trouble: Callable[[], None] = lambda: None,
        *,
        passing: tuple[type[NonesuchError], ...] = PASSING,
    ) -> T:
        """Run the operation that `make` makes; after trouble that is `passing` tell `on_trouble`, wait, and try again.

        Raises the last trouble when the outage has lasted for too long, `Stopped`, and whatever the operation raises.
        """
        since = next_line = time.monotonic()
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return self.link.run(make())
            except passing as error:
                trouble: NonesuchError = error
            on_trouble()
            now = time.monotonic()
            if now - since >= self._outage_s:
                raise trouble
            if now >= next_line:
                self.say(f"waiting for the service (at most {self._outage_s - (now - since):.0f} s): {trouble}")
                next_line = now + SAY_S
            pause(self._stop, pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
