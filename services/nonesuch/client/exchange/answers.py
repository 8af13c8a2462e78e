"""Asking, and reading what comes: the parts that every call is made of."""

import base64
from dataclasses import replace
from hashlib import sha256

from nonesuch.client.exchange.problems import error_of, retry_after_s
from nonesuch.client.exchange.retries import Again, Retries
from nonesuch.client.exchange.wire import Ask, Head, Read
from nonesuch.effects import Op
from nonesuch.errors import IntegrityError, InvalidValue, OrderFailed, TakeTimeout, Unreachable

KEY = "Idempotency-Key"
"""The header by which a gateway knows a request that comes again."""
MAX_PROBLEM_BYTES = 2**20
"""How many bytes at most are read of an answer that is an error."""

_PASSING = {408, 429, 502, 503, 504}
_LASTING = (OrderFailed, TakeTimeout)
"""Errors that have one of the `_PASSING` statuses and would come to the same again."""


def opened(ask: Ask) -> Op[Head]:
    """Send a request, and return when its answer begins. Raises `Again`, or the error that it is answered with."""
    try:
        head: Head = yield ask
        if 200 <= head.status < 300:
            return head
        error = error_of(head, (yield from _beginning()))
    except Unreachable as failure:
        raise Again(failure) from failure
    if isinstance(error, InvalidValue) and error.field == KEY:  # its recipe is too long to be kept; a seed does it too
        headers = {name: value for name, value in ask.headers.items() if name != KEY}
        return (yield from opened(replace(ask, headers=headers)))
    if head.status in _PASSING and not isinstance(error, _LASTING):
        raise Again(error, retry_after_s(head.headers))
    if head.status == 409 and KEY in ask.headers:  # the attempt before it has not been given up yet
        raise Again(error, retry_after_s(head.headers))
    raise error


class Body:
    """The bytes of one answer, held against its Content-Digest if it has one."""

    def __init__(self, head: Head) -> None:
        digest = head.headers.get("content-digest", "")
        plain = "content-encoding" not in head.headers  # a digest is of the bytes on the wire
        self._wanted = digest if plain and digest.startswith("sha-256=:") else None
        self._digest = sha256()

    def read(self) -> Op[bytes]:
        """The next bytes of the answer; b"" after the last. Raises `Again` when it is cut off, or damaged."""
        try:
            data: bytes = yield Read()
        except Unreachable as failure:
            raise Again(failure) from failure
        if self._wanted is not None:
            self._digest.update(data)
            if not data and self._wanted != f"sha-256=:{base64.b64encode(self._digest.digest()).decode()}:":
                raise Again(IntegrityError("the answer does not have the sha256 that it declares: it was damaged"))
        return data


def whole(ask: Ask, retries: Retries) -> Op[tuple[Head, bytes]]:
    """The answer to a request that may be repeated, in memory. Raises what it is answered with, and `Unreachable`."""

    def attempt() -> Op[tuple[Head, bytes]]:
        head = yield from opened(ask)
        body, parts = Body(head), []
        while data := (yield from body.read()):
            parts.append(data)
        return head, b"".join(parts)

    return (yield from retries.run(attempt))


def _beginning() -> Op[bytes]:
    parts = bytearray()
    while len(parts) < MAX_PROBLEM_BYTES and (data := (yield Read())):
        parts += data
    return bytes(parts)
