"""The status of `nonesuch up` is there to be looked at: whatever goes wrong with it, the service goes on."""

import io
import threading

import pytest
from rich.console import Console

from nonesuch.cli.up import _watch
from nonesuch.effects import Op
from nonesuch.errors import Busy, RingClosed, ServiceError, Unreachable


class Service:
    """A service all of whose parts are there, or one of whose parts ended."""

    url = "http://127.0.0.1:8000"

    def __init__(self, ended: str = "") -> None:
        self.ended = ended

    def check(self) -> None:
        if self.ended:
            raise ServiceError(self.ended)


class Failing:
    """A link all of whose operations fail; the third one is the last."""

    keys = None

    def __init__(self, error: Exception, asked: threading.Event) -> None:
        self.error, self.asked, self.runs = error, asked, 0

    def run(self, op: Op[object]) -> object:
        op.close()
        self.runs += 1
        if self.runs == 3:
            self.asked.set()
        raise self.error


class Now(threading.Event):
    """An event whose waits are over at once."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        Unreachable("no answer [yet]"),
        RingClosed("gone"),
        Busy("full"),
        ValueError("[/] not what it was"),
        TypeError("int() argument must be a string"),
        KeyError("used_memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_failure_of_the_status_ends_the_service(error: Exception, terminal: bool) -> None:
    out, asked = io.StringIO(), Now()
    link = Failing(error, asked)
    _watch(Console(file=out, force_terminal=terminal, width=200, highlight=False), Service(), link, asked)
    assert link.runs == 3
    assert str(error) in out.getvalue() and "no status" in out.getvalue()


def test_a_part_that_ended_ends_it() -> None:
    asked = Now()
    with pytest.raises(ServiceError, match="the worker ended"):
        _watch(Console(file=io.StringIO()), Service("the worker ended"), Failing(ValueError(), asked), asked)
