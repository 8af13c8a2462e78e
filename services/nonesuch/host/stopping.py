"""How code that was asked to stop says so, and how it finds out."""

import threading


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has cleaned up. A `KeyboardInterrupt`, so that whatever called it stops too."""


class Terminated(Stopped):
    """The run was asked to stop by SIGTERM: by whoever looks after the process, not by a person at its terminal."""


def exit_code(stopped: KeyboardInterrupt) -> int:
    """What a command ends with that was interrupted before its work was done, as a shell has it: 143 for SIGTERM, 130
    for Ctrl-C. Whoever waits for its work must not take it for finished."""
    return 143 if isinstance(stopped, Terminated) else 130


def check(stop: threading.Event) -> None:
    """Raises `Stopped` once the event is set."""
    if stop.is_set():
        raise Stopped


def pause(stop: threading.Event, seconds: float) -> None:
    """Sleep. Raises `Stopped` as soon as the event is set."""
    if stop.wait(seconds):
        raise Stopped
