"""How a run reports: a bar where somebody watches, lines where a file is kept."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nonesuch.host.terminal import terminal

logger = logging.getLogger(__name__)


class PretrainReporter:
    """Reports a run: averages the losses between two reports."""

    def __init__(self, start: int, total: int, every: int, bar: Progress | None) -> None:
        self._total, self._every, self._bar = total, every, bar
        self._task = None if bar is None else bar.add_task("pretraining", total=total, completed=start, report="")
        self._sums = [0.0, 0.0]
        self._seen = 0
        self._since = time.monotonic()

    def report(self, done: int, generator_loss: float, discriminator_loss: float) -> None:
        """Take in one iteration's losses; say something when `every` of them are there."""
        self._sums = [self._sums[0] + generator_loss, self._sums[1] + discriminator_loss]
        self._seen += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        if done % self._every and done != self._total:
            return
        now = time.monotonic()
        rate = self._seen / max(now - self._since, 1e-9)
        left = timedelta(seconds=round((self._total - done) / rate))
        g, d = (total / self._seen for total in self._sums)
        text = f"loss G {g:+.3f} D {d:.3f}, {rate:.2f} it/s, {left} left"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, report=text)
        else:
            logger.info("iteration %d/%d: %s", done, self._total, text)
        self._sums, self._seen, self._since = [0.0, 0.0], 0, now


@contextmanager
def reporting(start: int, total: int, every: int, *, watched: bool = True) -> Iterator[PretrainReporter]:
    """A reporter on a bar when it is watched and standard error is a terminal, else on log lines."""
    console = terminal(stderr=True)
    if not console.is_terminal or not watched:
        yield PretrainReporter(start, total, every, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[report]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        yield PretrainReporter(start, total, every, bar)
