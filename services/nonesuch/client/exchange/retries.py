"""Trying again: which failures, how often, and after how long."""

import logging
import random
from collections.abc import Callable

from nonesuch.client.exchange.wire import Pause
from nonesuch.effects import Op, T
from nonesuch.errors import NonesuchError

FIRST_S = 0.5
CAP_S = 8.0
LONGEST_S = 60.0
"""The longest pause in seconds: a service that wants to be left alone for longer has its error raised at once."""

log = logging.getLogger(__name__)


class Again(Exception):
    """Raised inside a call: it failed with `error`, and may go better another time, after `after_s` at the least."""

    def __init__(self, error: NonesuchError, after_s: float = 0.0) -> None:
        super().__init__(error)
        self.error = error
        self.after_s = after_s


class Retries:
    """What is left of the attempts of one call.

    The n-th pause is random between half of `FIRST_S`·2ⁿ and all of it, at most `CAP_S`, so that clients that failed
    together do not come back together; and as long as the service asked for.
    """

    def __init__(self, limit: int, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._limit = limit
        self._uniform = uniform
        self._used = 0

    def run(self, attempt: Callable[[], Op[T]]) -> Op[T]:
        """Repeat an attempt until it does not raise `Again`, or no attempt is left: then its error is raised."""
        while True:
            try:
                return (yield from attempt())
            except Again as again:
                if self._used >= self._limit or again.after_s > LONGEST_S:
                    raise again.error from again.__cause__
                error, after_s = again.error, again.after_s
            highest = min(CAP_S, FIRST_S * 2**self._used)
            pause = max(after_s, self._uniform(highest / 2, highest))
            self._used += 1
            log.warning("%s; trying again in %.1f s (%d of %d)", error, pause, self._used, self._limit)
            yield Pause(pause)
