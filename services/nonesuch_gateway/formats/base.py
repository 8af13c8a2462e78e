"""What every format is, and how one runs beside the event loop.

encoded   waits for: the next batch ── unblocked by: the reply (see `replies.reading`)
          waits for: its thread, when the format is heavy ── unblocked by: one batch's worth of work
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from nonesuch_gateway.formats.sink import Piece

T = TypeVar("T")


@dataclass(frozen=True)
class Outline:
    """What is known of an answer before its first batch."""

    count: int
    """How many rows were ordered."""
    complete: bool = True
    """Whether all rows will come; a strategy that rejects images may leave some out."""
    codec: str | None = None
    """What compresses the buffers of Arrow: zstd, lz4, or None."""


class Format(ABC):
    """Turns the batches of one order, in index order, into the bytes of one file.

    The same batches give the same bytes: no clock, no random ids. It keeps a few batches at most, and whatever must
    wait for the last one in a temporary file.
    """

    name: ClassVar[str]
    """The format's name: one of `nonesuch.schema.ENDINGS`, which says how files of the kind end."""
    media_type: str
    """The Content-Type of an answer in the format."""
    heavy: bool = True
    """Whether a batch takes so long, or touches files, that the event loop must not do it."""
    schema: ClassVar[dict[str, Any]] = {"type": "string", "format": "binary"}
    """JSON Schema of the body, for the OpenAPI document."""
    signature: ClassVar[bytes] = b""
    """The bytes that every file of the format begins with."""
    example: ClassVar[Any] = None
    """A whole file, for the OpenAPI document, if it is text."""
    opened_by: ClassVar[str]
    """What reads a file of the format, for the OpenAPI document."""

    @abstractmethod
    def __init__(self, outline: Outline) -> None:
        """Begins a file. Raises `InvalidOrder` for an answer that the format cannot hold."""

    @abstractmethod
    def add(self, batch: pa.RecordBatch) -> Sequence[Piece]:
        """The bytes that can be sent now that this batch is there, in pieces; may be none.

        Raises `InvalidOrder` for images that the format cannot hold.
        """

    @abstractmethod
    def finish(self) -> Iterator[Piece]:
        """The bytes that end the file, in pieces. Comes once, after the last batch, of which there is at least one."""

    def close(self) -> None:  # noqa: B027  most formats have no files
        """Let go of temporary files. May come at any time between two other calls, and more than once."""


async def encoded(form: Format, batches: AsyncIterable[pa.RecordBatch]) -> AsyncGenerator[Piece, None]:
    """The bytes of one file, in pieces that are not empty. Closes the format, also when it is left early.

    The next batch is asked for when the bytes of the last one were taken. Raises what `batches` and the format raise.
    """
    try:
        async for batch in batches:
            for data in await _done(form, partial(form.add, batch)):
                if data:
                    yield data
        rest = form.finish()
        while (data := await _done(form, partial(next, rest, None))) is not None:
            if data:
                yield data
    finally:
        form.close()


async def _done(form: Format, work: Callable[[], T]) -> T:
    """The result of the work. A thread that does it has ended in any case, so that the format can be closed."""
    if not form.heavy:
        return work()
    working = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        working.exception()  # marks it as seen
        raise cancelled
    return working.result()
