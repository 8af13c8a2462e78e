"""An answer as a file, in any of the gateway's formats."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nonesuch.client.answers import Body, opened
from nonesuch.client.flow import lost
from nonesuch.client.retries import Again, Retries
from nonesuch.client.wire import Ask, Head, Op, Work
from nonesuch.errors import InvalidValue
from nonesuch.host.files import replacing

SUFFIXES = {
    ".arrows": "arrow",
    ".parquet": "parquet",
    ".npz": "npz",
    ".tar": "webdataset",
    ".zip": "zip",
    ".png": "png",
    ".json": "json",
}
"""The format that a file's ending names."""

OnBytes = Callable[[int, int | None], None]
"""Told how many bytes are written, and how many there will be, where that is known."""


def untold(done: int, total: int | None) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    bytes: int
    seed: int
    """Of the request."""
    order: str
    """Names the recipe; it is the `order` of every row."""


def format_of(path: Path, named: str | None) -> str:
    """The format that is named, or that the file's ending means. Raises `InvalidValue` for another ending."""
    if named is not None:
        return named
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidValue(
            f"{path} ends in none of {', '.join(SUFFIXES)}: name a format, or end it in one of these", field="path"
        )
    return SUFFIXES[path.suffix.lower()]


def written(ask: Ask, path: Path, retries: Retries, on_bytes: OnBytes, *, once: bool = False) -> Op[Exported]:
    """Ask, and write what is answered; the file appears when it is complete. `once` says that there is one answer only.

    Raises `InvalidValue` when there is such a file already, and what the gateway answers.
    """
    if path.exists():
        raise InvalidValue(f"{path} exists: remove it, or choose another name", field="path")
    head, size = yield from retries.run(partial(_attempt, ask, path, on_bytes, once))
    headers = head.headers
    return Exported(path, size, int(headers.get("x-nonesuch-seed", "0")), headers.get("x-nonesuch-order", ""))


def _attempt(ask: Ask, path: Path, on_bytes: OnBytes, once: bool) -> Op[tuple[Head, int]]:
    head = yield from opened(ask)
    length = head.headers.get("content-length")
    body, done = Body(head), 0
    try:
        with ExitStack() as files:
            file = files.enter_context(files.enter_context(replacing(path)).open("wb"))
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
