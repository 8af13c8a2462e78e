"""A file for libraries that write files: what they write is given out piece by piece."""


class Sink:
    """Gives out what was written since the last time. It can neither seek nor tell."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes | memoryview) -> int:
        copy = bytes(data)
        self._parts.append(copy)
        return len(copy)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def drain(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
