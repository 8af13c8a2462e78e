"""A gateway that stops, in order.

    signal ──► the gate closes ───────────────────► cut ────────────────────► sockets close ──► exit
               new requests get 503, watchers are     requests that are
               sent away, open requests go on         still open are cancelled

drain    waits for: `at_least_s`, so that a load balancer sees 503 at /readyz ── unblocked by: the clock
         waits for: the requests inside ── unblocked by: their ends, `at_most_s`, a second SIGINT
         waits for: those that were cut, until they have left Redis ── unblocked by: their ends, `CUT_S`

The sockets listen until the end: who comes meanwhile is told to go elsewhere, not left without an answer.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from nonesuch.errors import Unavailable
from nonesuch_gateway.http.problems import answer_error
from nonesuch_gateway.telemetry.observe import noted

ALWAYS = frozenset({"/healthz", "/metrics"})
"""Paths that are answered to the end: a process that stops is not ill, and its last numbers count."""
POLL_S = 0.02
CUT_S = 5.0

log = logging.getLogger(__name__)


class Gate:
    """The gate that requests come in through. It closes once, for good."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()
        self._inside: set[asyncio.Task[Any]] = set()
        self.cutting = False
        """Whether the requests inside are being cancelled."""

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._closed.is_set()

    async def closes(self, within_s: float) -> bool:
        """Wait until the gate closes, `within_s` at most, and say whether it did."""
        try:
            async with asyncio.timeout(within_s):
                return await self._closed.wait()
        except TimeoutError:
            return False

    @contextmanager
    def inside(self) -> Iterator[asyncio.Task[Any]]:
        """The running task belongs to a request that was let in."""
        task = asyncio.current_task()
        assert task is not None
        self._inside.add(task)
        try:
            yield task
        finally:
            self._inside.discard(task)

    async def drain(self, *, at_least_s: float, at_most_s: float, hurry: Callable[[], bool]) -> None:
        """Close, and wait for the requests inside; cancel them after `at_most_s`, or as soon as `hurry()`."""
        self._closed.set()
        began = time.monotonic()
        while not hurry() and (passed := time.monotonic() - began) < at_most_s:
            if passed >= at_least_s and not self._inside:
                return
            await asyncio.sleep(POLL_S)
        self.cutting = True
        if self._inside:
            log.warning("%d requests were not answered in time and are cut off", len(self._inside))
        for task in self._inside:
            task.cancel()
        end = time.monotonic() + CUT_S
        while self._inside and time.monotonic() < end:
            await asyncio.sleep(POLL_S)


class Admission:
    """Middleware that answers 503 once the gate is closed, and to requests that are cut before their answer began."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._gate.closed:
            await _refuse(scope, receive, send)
            return
        with self._gate.inside() as task:
            try:
                await self._app(scope, receive, send)
            except asyncio.CancelledError:
                if not self._gate.cutting:
                    raise
                # Ends here, as the server would log it as a bug. An answer that has begun is left incomplete, which
                # makes the server close the connection.
                task.uncancel()
                if not noted(scope).status:
                    await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = Unavailable("this gateway is stopping: send the request again in a moment, to the one that follows it")
    response = await answer_error(Request(scope), error)
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
