"""A file for libraries that write files: what they write is given out piece by piece."""

import pyarrow as pa

Piece = bytes | memoryview

SMALL_BYTES = 65_536
"""Pieces of fewer bytes are joined with their neighbours: sending one costs about as much as copying these."""


class Sink:
    """Gives out what was written since the last time. It can neither seek nor tell.

    Large buffers of Arrow, which do not change, are given out as they are; they live as long as the piece.
    """

    closed = False

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._small: list[Piece] = []

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        piece = memoryview(data) if isinstance(data, pa.Buffer) else bytes(data)
        if len(piece) < SMALL_BYTES:
            self._small.append(piece)
        else:
            self._join()
            self._pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def drain(self) -> list[Piece]:
        self._join()
        pieces, self._pieces = self._pieces, []
        return pieces

    def _join(self) -> None:
        if self._small:
            self._pieces.append(b"".join(self._small))
            self._small.clear()
