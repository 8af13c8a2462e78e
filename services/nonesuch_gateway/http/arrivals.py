"""One connection of HTTP/1: how long a request may take to arrive, and whether there is a place for it.

    head      waits for: a whole head ── unblocked by: the client, `head_s` from the connection or the last answer
    leftover  waits for: the rest of a body that nobody wants, its request being answered ── unblocked by: the client,
                         `LEFTOVER_S`
    idle      waits for: the next request ── unblocked by: the client, or the server below, which closes after 5 s

Whatever a client sends, it moves none of these times. `middleware.BodyLimit` has those of bodies.
"""

import uuid
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from nonesuch_gateway.http.crowd import REFUSAL, REFUSED_S, Crowd, Place
from nonesuch_gateway.http.heads import BoundedHeads
from nonesuch_gateway.http.problems import MEDIA_TYPE, Problem

LEFTOVER_S = 5.0


class Arrivals(BoundedHeads):
    """Closes a connection whose request does not arrive in time: with 408 when a part of its head is there. One that
    `crowd` has no place for answers its first request with what `crowd` says, and closes.
    """

    _place: Place | None = None
    _timer: TimerHandle | None = None
    _body_ended = True
    """Whether the body of the last request is there; True before the first."""

    def __init__(self, *, crowd: Crowd, head_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._crowd = crowd
        self._head_s = head_s

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._place = self._crowd.connect(self.client[0] if self.client else "")
        if self._place is None:
            transport.abort()
            return
        self._within(self._head_s if self._place.refusal is None else min(REFUSED_S, self._head_s))

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        if self._place is not None:
            self._crowd.disconnect(self._place)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._in_time()
        self._body_ended = False
        refusal = None if self._place is None else self._place.refusal
        if refusal is not None:
            self.scope["state"][REFUSAL] = refusal
        super().on_headers_complete()
        if refusal is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_ended = True
        if self._timer is not None:  # it ran for the rest of a body
            self._within(self._head_s)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.response_complete:
            self._within(self._head_s if self._body_ended else LEFTOVER_S)

    def _within(self, seconds: float) -> None:
        self._in_time()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._head is None:
            self.transport.close()
        else:
            self._answer_late()

    def _answer_late(self) -> None:
        request_id = uuid.uuid4().hex
        detail = f"the head of the request was not whole after {self._head_s:g} s: send it again"
        problem = Problem(title=HTTPStatus(408).phrase, status=408, detail=detail, request_id=request_id)
        body = problem.model_dump_json().encode("ascii")
        head = (
            "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n"
            f"X-Request-Id: {request_id}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
