"""The batches of one answer, one at a time, whatever happens to the connection.

    next   waits for: the next bytes ── unblocked by: the gateway, the timeout
           waits for: its turn to try again, when the answer was refused or cut off ── unblocked by: the clock

A request with a seed is answered with the same batches every time. So an answer that was cut off is asked for again
from its beginning, and the batches that were handed out before are passed over. The results of a large order are sent
once, so there it is an error.
"""

from collections import deque
from collections.abc import Mapping

import pyarrow as pa

from nonesuch.client.exchange.answers import Body, opened
from nonesuch.client.exchange.asking import ARROW
from nonesuch.client.exchange.retries import Again, Retries
from nonesuch.client.exchange.splitting import Splitter
from nonesuch.client.exchange.wire import Ask
from nonesuch.client.images.batch import Batch
from nonesuch.effects import Op
from nonesuch.errors import Conflict, IntegrityError, InvalidValue, NonesuchError, Unreachable


class Flow:
    """The batches that answer the request `ask`, an Arrow IPC stream; `once` says that there is only the one answer.
    Holds what one read completes."""

    def __init__(self, ask: Ask, retries: Retries, *, once: bool = False) -> None:
        self._ask = ask
        self._retries = retries
        self._once = once
        self._ready: deque[pa.RecordBatch] = deque()
        self._given = 0
        self._recipe: str | None = None
        self._order = ""
        self._body: Body | None = None
        """The bytes of the open answer; None before it, and after it was cut off."""
        self._splitter = Splitter()
        self._to_skip = 0

    def next(self) -> Op[Batch | None]:
        """The next batch, which is what one ticket minted: at most 64 images; None after the last.

        Raises what the gateway answers, `Unreachable` when the connection fails once too often, `IntegrityError` for
        an answer that is not what it should be.
        """
        return self._retries.run(self._attempt)

    def all(self) -> Op[Batch]:
        """Every batch, as one. Raises what `next` raises."""
        parts: list[pa.RecordBatch] = []
        while (batch := (yield from self.next())) is not None:
            parts.append(batch.arrow)
        if not parts:
            raise IntegrityError("the answer has no batch, not even an empty one: it is not of a Nonesuch gateway")
        return Batch(parts[0] if len(parts) == 1 else pa.concat_batches(parts), recipe=self._recipe)

    def _attempt(self) -> Op[Batch | None]:
        if self._body is None:
            yield from self._open()
        assert self._body is not None
        try:
            while not self._ready:
                data = yield from self._body.read()
                if not data:
                    if not self._splitter.ended:
                        raise Again(Unreachable(f"the answer ends after {self._given} batches: it was cut off"))
                    return None
                try:
                    self._ready.extend(self._new(self._splitter.feed(data)))
                except IntegrityError as error:
                    raise Again(error) from error
        except Again as again:
            self._body = None
            if self._once and self._given:
                raise lost(again.error, f"{self._given} batches") from again.error
            raise
        self._given += 1
        return Batch(self._ready.popleft(), recipe=self._recipe)

    def _open(self) -> Op[None]:
        head = yield from opened(self._ask)
        kind = head.headers.get("content-type", "none")
        if not kind.startswith(ARROW):
            raise InvalidValue(f"{head.url} answers with {kind}: is it the URL of a Nonesuch gateway?", field="url")
        order = head.headers.get("x-nonesuch-order", "")
        if self._given and order != self._order:
            raise Conflict(
                "the answer was cut off, and the same request would be answered with other images now: a generator or "
                "a snapshot was replaced meanwhile. Ask again"
            )
        self._order = order
        self._recipe = _recipe(head.headers)
        self._body, self._splitter, self._to_skip = Body(head), Splitter(), self._given
        self._ready.clear()

    def _new(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        skipped = min(self._to_skip, len(batches))
        self._to_skip -= skipped
        return batches[skipped:]


def lost(error: NonesuchError, came: str) -> Unreachable:
    """The error of results that broke off after some of them had come."""
    return Unreachable(
        f"the results broke off after {came}, and an order's are sent once: place it again with its seed, which makes "
        f"the same images ({error})"
    )


def _recipe(headers: Mapping[str, str]) -> str | None:
    """The id of the recipe in Content-Location, if there is one."""
    _, found, rest = headers.get("content-location", "").partition("/v1/batches/")
    return rest.partition("?")[0] if found else None
