"""Answers to clients of HTTP/1.0 (old proxies, devices): they know no chunks, so a body without a length ends where the
connection does. The server beneath would send them chunk sizes inside of the body.
"""

import asyncio
import socket
import struct

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_RESET = struct.pack("ii", 1, 0)
_ORDERLY = struct.pack("ii", 0, 0)
"""What SO_LINGER makes of closing a connection."""


class CloseDelimited:
    """Takes the place of `send` of one request of HTTP/1.0.

    The end of a connection would make a body that was cut off look whole. So until the last byte is sent the connection
    is one that is reset when it is closed, which every client reports.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._unbounded = False
        cycle.waiting_for_100_continue = False  # HTTP/1.0 has no interim answers (RFC 9110, 10.1.1)

    async def __call__(self, message: Message) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._unbounded = b"content-length" not in names
            if self._unbounded:
                cycle.keep_alive = cycle.chunked_encoding = False
                _when_closed(cycle.transport, _RESET)
        elif self._unbounded:
            # The server counts what it sends against what it expects.
            cycle.expected_content_length += len(message.get("body", b""))
            if not message.get("more_body", False):
                _when_closed(cycle.transport, _ORDERLY)
        await self._send(message)  # type: ignore[arg-type]


def _when_closed(transport: asyncio.Transport, how: bytes) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
