"""The connections to Redis of one event loop: only so many at a time, and after a burst most of them are closed.

command  waits for: room among the connections ── unblocked by: another command's end, `WAIT_S`
trimmer  waits for: connections to be idle for `IDLE_S` ── unblocked by: the clock; there is none while few are idle
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from nonesuch.errors import Busy

WAIT_S = 5.0
"""How many seconds a command waits for a connection before it is given up."""
IDLE_S = 10.0
"""The idle seconds that a connection is closed after, if there are more than `KEPT`."""
KEPT = 8
"""How many idle connections are kept for whoever comes next."""


class Room:
    """Lets at most `size` commands be under way at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = asyncio.Semaphore(size)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """The place of one command. Waits for it, first come, first served. Raises `Busy` after `WAIT_S`."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(
                f"this process' own limit of {self._size} commands to Redis at once: none of them ended within "
                f"{WAIT_S:g} s. Try again in a moment"
            ) from None
        try:
            yield
        finally:
            self._free.release()


class Pool(redis.asyncio.ConnectionPool):
    """Closes what was needed for a burst only: the connection that was used last is the first to be used again, so
    those that are too many become idle.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._since: WeakKeyDictionary[AbstractConnection, float] = WeakKeyDictionary()
        self._trimmer: asyncio.Task[None] | None = None

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back that is not needed any more."""
        self._since[connection] = asyncio.get_running_loop().time()
        await super().release(connection)
        if len(self._available_connections) > KEPT and self._trimmer is None:
            self._trimmer = asyncio.create_task(self._trim())

    async def _trim(self) -> None:
        try:
            while len(self._available_connections) > KEPT:
                await asyncio.sleep(IDLE_S)
                old = asyncio.get_running_loop().time() - IDLE_S
                for connection in self._available_connections[:-KEPT]:  # in the order in which they became idle
                    if self._since[connection] > old:
                        break
                    self._available_connections.remove(connection)
                    await connection.disconnect(nowait=True)
        finally:
            self._trimmer = None

    async def aclose(self) -> None:
        """Close every connection."""
        if self._trimmer is not None:
            self._trimmer.cancel()
        await super().aclose()
