"""Bytes that wait, in memory or a temporary file, because they can be sent only after the last batch."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile

from nonesuch.errors import Busy

MEMORY_BYTES = 2**20
"""How many bytes a spool keeps in memory; beyond that it is a temporary file."""
PIECE_BYTES = 2**20


class Spool:
    """Bytes, written to the end, then read, once or more. Its owner closes it. Raises `Busy` when the disk is full."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  lives as long as this object
        self._size = 0

    def __len__(self) -> int:
        """How many bytes there are."""
        return self._size

    def write(self, data: bytes | memoryview) -> None:
        with _room():
            self._size += self._file.write(data)

    def pieces(self, grain: int = 1) -> Iterator[bytes]:
        """All bytes, in pieces of about a MiB that are multiples of `grain` bytes."""
        with _room():
            self._file.seek(0)
        size = max(1, PIECE_BYTES // grain) * grain
        while piece := self._file.read(size):
            yield piece

    def close(self) -> None:
        """Free the spool's memory or file; twice does no harm."""
        with suppress(OSError):  # of what there was no room for
            self._file.close()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Busy(
            f"the gateway cannot keep what waits for the last image ({error}): try again in a moment, or ask for "
            "format arrow, which needs no temporary file"
        ) from None
