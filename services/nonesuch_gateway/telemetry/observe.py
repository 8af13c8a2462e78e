"""What is noted of every request: for the metrics, and for one line in the log when it has ended.

Routes that know more than the middleware can see (which order, which format) add it to `noted(scope)`. A token's id is
in the line if `request.state.token` holds something that has an `id`; nothing else of a token is read.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nonesuch.orders import Priority
from nonesuch_gateway.telemetry.metrics import Metrics

Outcome = Literal["done", "cancelled", "failed", "expired"]

OTHER = "other"
"""The route and the method of what is none of ours, so that nobody can make up labels."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines ask for every few seconds, so their lines are for debugging only."""
CLIENT_LEFT = 499
"""The status of a request whose client went away before an answer had one, as nginx has it."""

log = logging.getLogger("nonesuch_gateway.access")


@dataclass(slots=True)
class Noted:
    """What is noted of one request."""

    began: float
    """When the request began, by `time.perf_counter`."""
    status: int = 0
    """The status of the answer; 0 while none has begun."""
    first_byte_s: float | None = None
    """Seconds from the request's head to that of its answer."""
    bytes: int = 0
    """How many bytes of the answer's body there were."""
    complete: bool = False
    """Whether the answer was sent to its end."""
    aborted: bool = False
    """Whether the client went away before the answer was sent to its end."""
    order: str | None = None
    """The id of the order that was streamed."""
    priority: Priority | None = None
    format: str | None = None
    images: int = 0
    outcome: Outcome | None = None
    """How the order that was streamed ended; None as long as it has not."""


def noted(scope: Scope) -> Noted:
    """What is noted of the request of a scope."""
    found: Noted | None = scope.get("state", {}).get("noted")
    return Noted(time.perf_counter()) if found is None else found


class Observe:
    """Counts requests and logs them. Pieces of an answer cost one addition each."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = scope.setdefault("state", {})["noted"] = Noted(time.perf_counter())

        async def noting_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not seen.complete:
                seen.aborted = True
            return message

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.body":
                seen.bytes += len(message.get("body", b""))
                await send(message)
                seen.complete = not message.get("more_body", False)
            else:
                seen.status = message["status"]
                seen.first_byte_s = time.perf_counter() - seen.began
                await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, noting_receive, noting_send)
        except asyncio.CancelledError:
            seen.status = seen.status or 503  # the server was told to stop at once
            raise
        except Exception:
            seen.status = seen.status or 500  # the problem that says so is sent by the outermost middleware
            raise
        finally:
            self._metrics.in_flight.dec()
            self._ended(scope, seen)

    def _ended(self, scope: Scope, seen: Noted) -> None:
        seconds = time.perf_counter() - seen.began
        status = seen.status or CLIENT_LEFT
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = getattr(scope.get("route"), "path", OTHER)
        self._metrics.request_ended(method, route, status, seconds, seen.first_byte_s, seen.bytes, seen.aborted)
        if seen.format is not None and status == 200:
            self._metrics.images_served(seen.format, seen.images, seen.bytes)
        if seen.outcome is not None and seen.priority is not None:
            self._metrics.order_ended(seen.priority, seen.outcome)
        level = logging.DEBUG if route in PROBES else logging.WARNING if status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        fields: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "bytes": seen.bytes,
            "aborted": seen.aborted,
            "complete": seen.complete,
            "token": getattr(scope["state"].get("token"), "id", None),
        }
        if seen.order is not None:
            fields |= {"order": seen.order, "format": seen.format, "images": seen.images, "outcome": seen.outcome}
        log.log(level, "%s", _sentence(fields), extra={"fields": fields})


def _sentence(fields: dict[str, Any]) -> str:
    words = f"{fields['method']} {fields['route']} {fields['status']} in {fields['ms']:g} ms, {fields['bytes']} bytes"
    if "order" in fields:
        words += f", {fields['images']} images as {fields['format']} of order {fields['order']}"
        words += "" if fields["outcome"] is None else f" ({fields['outcome']})"
    if fields["token"] is not None:
        words += f", token {fields['token']}"
    if fields["aborted"]:
        return words + ", aborted by the client"
    return words if fields["complete"] else words + ", cut off"
