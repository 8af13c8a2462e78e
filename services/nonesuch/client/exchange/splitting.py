"""An Arrow IPC stream that comes in pieces, taken apart without waiting for the rest.

pyarrow reads streams by pulling, which would need a thread for each stream of an event loop. So its messages are told
apart here (https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format), and pyarrow decodes each.

    4 bytes   0xFFFFFFFF
    4 bytes   length n of the metadata, little-endian; 0 ends the stream
    n bytes   metadata: a flatbuffer with the kind of the message and the length m of its body
    m bytes   the body
"""

import struct
from collections import deque

import pyarrow as pa

from nonesuch.errors import IntegrityError
from nonesuch.schema import read_batch

MAX_METADATA = 64 * 2**20
MAX_BODY = 4 * 2**30
"""The longest body of a message, in bytes: a ticket has 4 MiB of images, so more is no batch of ours."""

_CONTINUES = 0xFFFFFFFF
_RECORD_BATCH = 3
_KIND, _LENGTH = 6, 10  # where the table of a flatbuffer says where the fields header_type and bodyLength are


class Splitter:
    """Bytes in, record batches out; keeps one unfinished message at most."""

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        """What came and belongs to no message yet. Joined once a message is complete, which is the only copy."""
        self._held = 0
        self._next: tuple[int, int] | None = None
        """Kind and size in bytes of the message that comes next, once they are known."""
        self._opening = b""
        """The messages that every batch needs: the schema and the dictionaries."""
        self.ended = False
        """Whether the stream said that it is complete."""

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """The batches that these bytes complete. Raises `IntegrityError` for what is no stream, or is damaged."""
        if self.ended:
            return []
        self._parts.append(memoryview(data))
        self._held += len(data)
        batches = []
        while (found := self._message()) is not None and found[1] <= self._held:
            kind, size = found
            message = b"".join((self._opening, *self._take(size)))
            self._next = None
            if kind == _RECORD_BATCH:
                batches.append(_batch(message))
            else:
                self._opening = message
        return batches

    def _message(self) -> tuple[int, int] | None:
        """Kind and size of the next message; None while they are not known, and after the last."""
        if self._next is not None or self.ended or self._held < 8:
            return self._next
        marker, length = struct.unpack("<II", self._first(8))
        if marker != _CONTINUES or length > MAX_METADATA:
            raise IntegrityError("the answer is no Arrow IPC stream, or was damaged")
        if length == 0:
            self.ended = True
        elif self._held >= 8 + length:
            kind, body = _fields(self._first(8 + length)[8:])
            self._next = kind, 8 + length + body
        return self._next

    def _first(self, size: int) -> bytes:
        """The first bytes that are held, which stay."""
        taken = self._take(size)
        self._parts.extendleft(reversed(taken))
        self._held += size
        return b"".join(taken)

    def _take(self, size: int) -> list[memoryview]:
        """The first bytes that are held, which go."""
        self._held -= size
        taken: list[memoryview] = []
        while size:
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
                part = part[:size]
            taken.append(part)
            size -= len(part)
        return taken


def _batch(stream: bytes) -> pa.RecordBatch:
    """The batch in a stream of one. Looked through, because an offset that is damaged would be read from anywhere."""
    try:
        batch = read_batch(stream)
        batch.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise IntegrityError(f"a batch of the answer is damaged: {error}") from None
    return batch


def _fields(metadata: bytes) -> tuple[int, int]:
    """The kind of a message and the length of its body. A field that is left out is 0."""
    try:
        (table,) = struct.unpack_from("<I", metadata)
        (back,) = struct.unpack_from("<i", metadata, table)
        (size,) = struct.unpack_from("<H", metadata, table - back)

        def place(entry: int) -> int:
            return struct.unpack_from("<H", metadata, table - back + entry)[0] if entry < size else 0

        kind = metadata[table + place(_KIND)] if place(_KIND) else 0
        body = struct.unpack_from("<q", metadata, table + place(_LENGTH))[0] if place(_LENGTH) else 0
    except (struct.error, IndexError):
        raise IntegrityError("a message of the Arrow IPC stream is damaged") from None
    if not 0 <= body <= MAX_BODY:
        raise IntegrityError(f"a message of the Arrow IPC stream claims {body} bytes: it is damaged")
    return kind, body
