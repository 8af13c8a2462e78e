"""The client that blocks its task only: `Client`, with `await` and `async for`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import httpx

from nonesuch.client.calls import Calls
from nonesuch.client.exchange.flow import Flow
from nonesuch.client.exchange.http import connected, is_here, options, request, unreachable
from nonesuch.client.exchange.settings import ClientSettings
from nonesuch.client.exchange.wire import Ask, Head, Pause, Read, Work, signature_of
from nonesuch.client.images.batch import Batch
from nonesuch.effects import Effect, Op, T, adrive
from nonesuch.errors import InvalidValue
from nonesuch.host.contexts import AsyncClosing
from nonesuch.host.owners import PerLoop

P = ParamSpec("P")


class AsyncStream(AsyncIterator[Batch], AsyncClosing):
    """`Stream`, for `async for`. Close it with `aclose` or `async with` when it is left early."""

    def __init__(self, batches: AsyncGenerator[Batch, None]) -> None:
        self._batches = batches

    async def __anext__(self) -> Batch:
        return await anext(self._batches)

    async def aclose(self) -> None:
        await self._batches.aclose()


def _awaited(
    call: Callable[Concatenate[Calls, P], Op[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    @wraps(call)
    async def run(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with client._exchange() as exchange:
            return await exchange.run(call(client._calls, *args, **kwargs))

    run.__dict__["__signature__"] = signature_of(call)
    return run


def _streaming(call: Callable[Concatenate[Calls, P], Flow]) -> Callable[Concatenate["AsyncClient", P], AsyncStream]:
    @wraps(call)
    def run(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream:
        return AsyncStream(client._batches(call(client._calls, *args, **kwargs)))

    run.__dict__["__signature__"] = signature_of(call)
    return run


class AsyncClient(AsyncClosing):
    """`Client` for event loops, which it does not hold up: files are written in threads.

    Each loop in which it is used has connections of its own; close it in the last one. A stream is for the loop that
    began it.

    async with nonesuch.AsyncClient() as client:
        async for batch in client.stream(10_000): ...
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Does not connect yet. Args and raises: as `Client`."""
        given = {"url": url, "token": token, "timeout_s": timeout, "retries": retries}
        self.settings = ClientSettings.of(given)
        self._calls = Calls(retries=self.settings.retries)
        self._transport = transport
        self._http = PerLoop(lambda: connected(self._connected))
        self._sleep = sleep

    mint = _awaited(Calls.mint)
    stream = _streaming(Calls.stream)
    again = _awaited(Calls.again)
    export = _awaited(Calls.export)
    place_order = _awaited(Calls.place_order)
    order = _awaited(Calls.order)
    order_results = _streaming(Calls.order_results)
    export_order = _awaited(Calls.export_order)
    cancel_order = _awaited(Calls.cancel_order)
    generators = _awaited(Calls.generators)
    generator = _awaited(Calls.generator)
    strategies = _awaited(Calls.strategies)
    stats = _awaited(Calls.stats)
    snapshots = _awaited(Calls.snapshots)
    latest_snapshot = _awaited(Calls.latest_snapshot)
    publish = _awaited(Calls.publish)
    publish_payload = _awaited(Calls.publish_payload)

    async def aclose(self) -> None:
        """Close the connections of this event loop; what still streams there is cancelled."""
        await self._http().aclose()

    def _connected(self) -> httpx.AsyncClient:
        way = self._transport or (httpx.AsyncHTTPTransport() if is_here(self.settings) else None)
        return httpx.AsyncClient(transport=way, **options(self.settings))

    def _exchange(self) -> "_Exchange":
        return _Exchange(self._http(), self.settings, self._sleep)

    async def _batches(self, flow: Flow) -> AsyncGenerator[Batch, None]:
        async with self._exchange() as exchange:
            while (batch := await exchange.run(flow.next())) is not None:
                yield batch


class _Exchange(AsyncClosing):
    """One call: at most one answer is open, and it is closed at the end."""

    def __init__(
        self, http: httpx.AsyncClient, settings: ClientSettings, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._http, self._settings, self._sleep = http, settings, sleep
        self._loop = asyncio.get_running_loop()
        self._answer: httpx.Response | None = None
        self._parts: AsyncIterator[bytes]

    async def run(self, op: Op[T]) -> T:
        """Run a call, or a part of one, to its end. Raises what it raises, and `InvalidValue` for a stream of another
        loop."""
        if self._loop is not asyncio.get_running_loop():
            raise InvalidValue("this stream was begun in another event loop: begin it in the loop that reads it")
        return await adrive(op, self._do)

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Ask():
                return await self._ask(effect)
            case Read():
                return await self._read()
            case Pause(seconds):
                await self.aclose()
                await self._sleep(seconds)
            case Work(do):
                return await asyncio.to_thread(do)
            case _:
                raise AssertionError(effect)

    async def _ask(self, ask: Ask) -> Head:
        await self.aclose()
        sent = request(self._http, self._settings, ask)
        try:
            self._answer = await self._http.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise unreachable(error, str(sent.url), begun=False) from error
        self._parts = self._answer.aiter_bytes()
        return Head(self._answer.status_code, self._answer.headers, str(sent.url))

    async def _read(self) -> bytes:
        try:
            async for part in self._parts:
                if part:
                    return part
            return b""
        except httpx.HTTPError as error:
            assert self._answer is not None
            raise unreachable(error, str(self._answer.url), begun=True) from error

    async def aclose(self) -> None:
        if self._answer is not None and self._loop is asyncio.get_running_loop():  # no other one can
            await self._answer.aclose()
