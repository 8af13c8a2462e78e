"""An answer as a file, in any of the gateway's formats."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nonesuch.client.exchange.answers import Body, opened
from nonesuch.client.exchange.flow import lost
from nonesuch.client.exchange.retries import Again, Retries
from nonesuch.client.exchange.wire import Ask, Head, Work
from nonesuch.effects import Op
from nonesuch.host.files import creating, refuse_taken

WRITTEN = frozenset({"arrow", "parquet", "npz", "webdataset", "zip", "png", "json"})
"""The formats that a gateway writes, by the names that `nonesuch.schema.ENDINGS` has for them."""

OnBytes = Callable[[int, int | None], None]
"""What is told how many bytes are written, and how many there will be (None where nobody knows)."""


def untold(done: int, total: int | None) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    bytes: int
    seed: int
    """The seed of the request."""
    order: str
    """The name of the recipe, which is the `order` of every row."""


def written(ask: Ask, path: Path, retries: Retries, on_bytes: OnBytes, *, once: bool = False) -> Op[Exported]:
    """Ask, and write what is answered; the file appears when it is complete. `once` says that there is one answer only.

    Raises `InvalidValue` when there is such a file already or another process is writing it, and what the gateway
    answers.
    """
    refuse_taken(path)  # before anything is asked for
    head, size = yield from retries.run(partial(_attempt, ask, path, on_bytes, once))
    headers = head.headers
    return Exported(path, size, int(headers.get("x-nonesuch-seed", "0")), headers.get("x-nonesuch-order", ""))


def _attempt(ask: Ask, path: Path, on_bytes: OnBytes, once: bool) -> Op[tuple[Head, int]]:
    head = yield from opened(ask)
    length = head.headers.get("content-length")
    body, done = Body(head), 0
    try:
        with ExitStack() as files:
            file = files.enter_context(files.enter_context(creating(path)).open("wb"))
            while data := (yield from body.read()):
                yield Work(partial(file.write, data))
                done += len(data)
                on_bytes(done, None if length is None else int(length))
            yield Work(files.pop_all().close)  # which has the disk hold it
    except Again as again:
        if once and done:
            raise lost(again.error, f"{done} bytes") from again.error
        raise
    return head, done
