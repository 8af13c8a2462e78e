"""Being asked to stop."""

import threading


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has cleaned up. A `KeyboardInterrupt`, so that whatever called it stops too."""


def check(stop: threading.Event) -> None:
    """Raises `Stopped` once the event is set."""
    if stop.is_set():
        raise Stopped


def pause(stop: threading.Event, seconds: float) -> None:
    """Sleep. Raises `Stopped` as soon as the event is set."""
    if stop.wait(seconds):
        raise Stopped
