"""ZIP of any number of members, in little memory.

`zipfile.ZipFile` keeps half a KB for each member until the end; here what the end needs waits in a spool. Members are
stored as they are, dated 1980. Layout: PKWARE's APPNOTE.TXT 6.3, 4.3.7, 4.3.12 and 4.3.14 to 4.3.16.
"""

import struct
from collections.abc import Iterator
from zlib import crc32

from nonesuch_gateway.formats.spool import Spool

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_OFFSET_64 = struct.Struct("<2HQ")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")

_VERSION, _VERSION_64 = 20, 45
_MADE_ON_UNIX = 3 << 8
_UTF8 = 1 << 11
_STORED = 0
_TIME, _DATE = 0, 1 << 5 | 1
_READABLE_FILE = 0o100644 << 16
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF
"""Values that stand for: the number is in the 64-bit record."""


class ZipWriter:
    """A ZIP as it is written: members one after another, then the directory.

    Args:
        offset: bytes that come before the first member.
    """

    def __init__(self, offset: int = 0) -> None:
        self._offset = offset
        self._count = 0
        self._directory = Spool()

    def member(self, name: str, data: bytes) -> bytes:
        """The bytes of a file in the ZIP, of less than 4 GiB."""
        path = name.encode()
        same = (_UTF8, _STORED, _TIME, _DATE, crc32(data), len(data), len(data), len(path))
        far = self._offset >= _MAX_32
        version = _VERSION_64 if far else _VERSION
        extra = _OFFSET_64.pack(1, 8, self._offset) if far else b""
        self._directory.write(
            _CENTRAL.pack(
                b"PK\1\2", _MADE_ON_UNIX | version, version, *same, len(extra), 0, 0, 0, _READABLE_FILE,
                min(self._offset, _MAX_32),
            ) + path + extra
        )  # fmt: skip
        local = _LOCAL.pack(b"PK\3\4", version, *same, 0) + path + data
        self._count += 1
        self._offset += len(local)
        return local

    def end(self) -> Iterator[bytes]:
        """The directory that ends the file, in pieces. Comes once."""
        yield from self._directory.pieces()
        count, size, start = self._count, len(self._directory), self._offset
        if count >= _MAX_16 or max(size, start) >= _MAX_32:
            yield _END_64.pack(b"PK\6\6", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
            yield _LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1)
        few = min(count, _MAX_16)
        yield _END.pack(b"PK\5\6", 0, 0, few, few, min(size, _MAX_32), min(start, _MAX_32), 0)

    def close(self) -> None:
        """Let go of the spool with the directory; twice does no harm."""
        self._directory.close()
