"""TCP between two parts, which can be cut and halted.

pump  waits for: bytes of one side ── unblocked by: it, a cut
      waits for: the wire to go on ── unblocked by: `going`
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

PIECE_BYTES = 65_536


class Wire:
    """Listens on a port of this machine and hands on what comes to another, until it is left."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"wire to {target}")
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refuses = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *exc: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection; new ones are served."""
        self._do(self._abort())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """While it lasts there are no connections: those that were are reset, and so are new ones."""
        self._refuses = True
        try:
            self.cut()
            yield
        finally:
            self._refuses = False

    @contextmanager
    def halted(self) -> Iterator[None]:
        """While it lasts nothing moves, and nobody is told."""
        self._do(self._halt(True))
        try:
            yield
        finally:
            self._do(self._halt(False))

    def _do(self, what) -> None:  # type: ignore[no-untyped-def]
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._going = asyncio.Event()
        self._going.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _halt(self, halted: bool) -> None:
        self._going.clear() if halted else self._going.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            if not self._refuses:
                await self._join(reader, writer)
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return
        self._open.add(back)
        pumps = [asyncio.create_task(self._pump(reader, back)), asyncio.create_task(self._pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open.discard(back)
            with suppress(OSError):
                back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                await self._going.wait()
                writer.write(data)
                await writer.drain()
            await writer.drain()
