"""The processes of the service, and who starts them again.

supervisor  waits for: the end of a part ── unblocked by: the clock, every `LOOK_S`; starts it again, unless a fault
            holds it down, and notes an end that nobody has asked for
"""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nonesuch.host.orphans import die_with_parent
from nonesuch.host.process import CPU_SETTINGS
from tests.helpers.drill import Background

ROOT = Path(__file__).parents[2]
LOOK_S = 0.1
MARK = "NONESUCH_CHAOS"
"""The variable that all of our processes have, with `RUN` in it."""
ALONE = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
RUN = uuid.uuid4().hex


class Part:
    """One process, started again and again."""

    def __init__(self, name: str, command: Sequence[object], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self._log, self._env = log, env
        self._process: subprocess.Popen[bytes] | None = None
        self.options: list[str] = []
        """What it is given beside its command when it is started the next time."""
        self.held = False
        """Whether it must not be started again now."""
        self._asked = True
        """Whether somebody here has ended it."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def runs(self) -> bool:
        return self._process is not None and self.code is None

    def start(self) -> int:
        """How long its log is when it starts, in bytes."""
        self._asked = False
        with self._log.open("ab") as log:
            began = log.tell()
            self._process = subprocess.Popen(
                ["nice", "-n", "10", *self._command, *self.options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **CPU_SETTINGS, **ALONE, MARK: RUN, **self._env},
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        return began

    def signal(self, number: int) -> None:
        if self.runs:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None:
            self._asked = True
            self.signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """As its owner would; whether it went by itself."""
        if self._process is None:
            return True
        self._asked = True
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    @contextmanager
    def down(self) -> Iterator[None]:
        """While it lasts it is dead."""
        self.held = True
        try:
            self.kill()
            yield
        finally:
            self.held = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts it does nothing, and keeps its connections."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)

    def ended_by_itself(self) -> bool:
        return self._process is not None and self.code is not None and not self._asked

    def said_since(self, began: int) -> str:
        return self._log.read_bytes()[began:].decode(errors="replace")

    def last_words(self) -> str:
        return self._log.read_bytes()[-600:].decode(errors="replace") if self._log.exists() else ""


class Supervisor(Background):
    """Starts parts again; `ends` are those that nobody here has asked for: (when, part, code, last words)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self._parts = list(parts)
        self._resting = threading.Event()
        self.ends: list[tuple[float, str, int, str]] = []

    def rest(self) -> None:
        """Start nothing any more. The thread stays: what it has started would end with it."""
        self._resting.set()

    def step(self) -> None:
        for part in () if self._resting.is_set() else self._parts:
            if part.held or part.runs:
                continue
            if part.ended_by_itself():
                self.ends.append((time.monotonic(), part.name, part.code, part.last_words()))
            part.start()
        self._stopping.wait(LOOK_S)


def left_behind() -> list[int]:
    """Processes of this run that still are there, this one aside."""
    found = []
    mark = f"{MARK}={RUN}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def python(module: str, *options: object) -> list[object]:
    return [sys.executable, "-m", module, *options]
