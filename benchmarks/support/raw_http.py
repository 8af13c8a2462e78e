"""HTTP clients that cost next to nothing, so that the server is what is measured."""

import asyncio
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

_BUFFER = bytearray(2**20)


@dataclass(frozen=True)
class Answer:
    """A whole answer, whose body was thrown away."""

    seconds: float
    bytes: int
    """Of head and body as they came."""


def request(method: str, url: str, body: bytes = b"") -> bytes:
    """A request after which the server closes the connection."""
    return _head(method, url, body, "close")


def _head(method: str, url: str, body: bytes, connection: str) -> bytes:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return (
        f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: {connection}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def fetch(method: str, url: str, body: bytes = b"") -> Answer:
    """Send a request and read its answer to the end. Raises `RuntimeError` for any status but 200 and a cut answer."""
    start = time.perf_counter()
    with connect(url) as connection:
        connection.sendall(request(method, url, body))
        size, first, last = 0, b"", b""
        while n := connection.recv_into(_BUFFER):
            first = first or bytes(_BUFFER[: min(n, 4096)])
            last = (last + bytes(_BUFFER[max(0, n - 8) : n]))[-8:]
            size += n
    if not first.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{method} {url}: {first.decode('latin-1')}")
    if b"transfer-encoding: chunked" in first.lower() and not last.endswith(b"0\r\n\r\n"):
        raise RuntimeError(f"{method} {url}: the answer was cut off after {size} bytes")
    return Answer(time.perf_counter() - start, size)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=120)


async def latencies(url: str, body: bytes, *, clients: int, each: int) -> list[float]:
    """Seconds of every request of `clients` that post at the same time, `each` after its last, on a connection of its
    own that stays open. Answers must have a Content-Length. Raises `RuntimeError` for any status but 200.
    """
    parts = urlsplit(url)
    head = _head("POST", url, body, "keep-alive")
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(each):
            start = time.perf_counter()
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            seconds.append(time.perf_counter() - start)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode("latin-1"))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds
