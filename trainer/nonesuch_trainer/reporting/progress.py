"""How a run shows itself: a bar on a terminal, plain lines in a log."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nonesuch.host.terminal import terminal

log = logging.getLogger(__name__)
PLAIN_S = 10.0
"""Seconds between two plain lines about the same work."""


class RunReporter(Protocol):
    """What a run tells whoever watches it."""

    def say(self, line: str) -> None:
        """Say one line, to be kept."""

    def advance(self, what: str, done: int, total: int) -> None:
        """Show how far the work in hand is."""


class _Lines:
    def __init__(self, run: str) -> None:
        self._run = run
        self._next_line = time.monotonic() + PLAIN_S

    def say(self, line: str) -> None:
        log.info("%s: %s", self._run, line)
        self._next_line = time.monotonic() + PLAIN_S

    def advance(self, what: str, done: int, total: int) -> None:
        if time.monotonic() >= self._next_line:
            self.say(f"{what}: {done}/{total}")


class _Bar:
    def __init__(self, run: str, bar: Progress) -> None:
        self._run, self._bar = run, bar
        self._task = bar.add_task(run, total=None)

    def say(self, line: str) -> None:
        self._bar.console.print(f"{self._run}: {line}")

    def advance(self, what: str, done: int, total: int) -> None:
        same = self._bar.tasks[0].description == what
        if not same:
            self._bar.reset(self._task)
        self._bar.update(self._task, description=what, completed=done, total=total)


@contextmanager
def reporting(run: str) -> Iterator[RunReporter]:
    """Yields a reporter for standard error: a bar if that is a terminal, else plain lines."""
    console = terminal(stderr=True)
    if not console.is_terminal:
        yield _Lines(run)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(run, bar)
