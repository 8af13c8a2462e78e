"""The client that blocks its thread."""

import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import httpx

from nonesuch.client.calls import Calls
from nonesuch.client.exchange.flow import Flow
from nonesuch.client.exchange.http import connected, is_here, options, request, unreachable
from nonesuch.client.exchange.settings import ClientSettings
from nonesuch.client.exchange.wire import Ask, Head, Pause, Read, Work, signature_of
from nonesuch.client.images.batch import Batch
from nonesuch.effects import Effect, Op, T, drive
from nonesuch.errors import InvalidValue
from nonesuch.host.contexts import Closing
from nonesuch.host.owners import PerProcess

P = ParamSpec("P")


class Stream(Iterator[Batch], Closing):
    """An iterator of batches. Closing it, which leaving a `with` does too, cancels what was not made yet."""

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._batches = batches

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        self._batches.close()


def _blocking(call: Callable[Concatenate[Calls, P], Op[T]]) -> Callable[Concatenate["Client", P], T]:
    @wraps(call)
    def run(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with client._exchange() as exchange:
            return exchange.run(call(client._calls, *args, **kwargs))

    run.__dict__["__signature__"] = signature_of(call)
    return run


def _streaming(call: Callable[Concatenate[Calls, P], Flow]) -> Callable[Concatenate["Client", P], Stream]:
    @wraps(call)
    def run(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Stream:
        return Stream(client._batches(call(client._calls, *args, **kwargs)))

    run.__dict__["__signature__"] = signature_of(call)
    return run


class Client(Closing):
    """Images, and whatever else a gateway answers. Threads may share one, and processes that were forked, each of which
    opens connections of its own; a stream is for the process that began it.

        with nonesuch.Client() as client:
            x, y = client.mint(256, sigma=1.0, seed=7).torch()

    Every wait is finite, and a call that fails in passing (no connection, 429, 503, an answer that is cut off) is tried
    again after a pause, which a warning of the logger `nonesuch.client` tells. A request for images has a fixed seed
    and a key of its own (Idempotency-Key), so it is for the same images, and counted once, however often it is sent.

    Errors are those of `nonesuch.errors`, of the class that the gateway raised.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Does not connect yet. Raises `InvalidValue` for settings that cannot be used.

        Args:
            url: of the gateway; NONESUCH_URL, or http://127.0.0.1:8000, if left out.
            token: nsk_…, if the gateway wants one; NONESUCH_TOKEN if left out.
            timeout: seconds for a connection, for sending, and for each part of an answer, 30 if left out; images may
                take their deadline longer.
            retries: how often a call that failed in passing is tried again; 3 if left out.
            transport: another way to the gateway than the network, for tests.
            sleep: what waits between retries, for tests.
        """
        given = {"url": url, "token": token, "timeout_s": timeout, "retries": retries}
        self.settings = ClientSettings.of(given)
        self._calls = Calls(retries=self.settings.retries)
        self._transport = transport
        self._http = PerProcess(lambda: connected(self._connected))
        self._http()  # refuses what cannot be used now
        self._sleep = sleep

    mint = _blocking(Calls.mint)
    stream = _streaming(Calls.stream)
    again = _blocking(Calls.again)
    export = _blocking(Calls.export)
    place_order = _blocking(Calls.place_order)
    order = _blocking(Calls.order)
    order_results = _streaming(Calls.order_results)
    export_order = _blocking(Calls.export_order)
    cancel_order = _blocking(Calls.cancel_order)
    generators = _blocking(Calls.generators)
    generator = _blocking(Calls.generator)
    strategies = _blocking(Calls.strategies)
    stats = _blocking(Calls.stats)
    snapshots = _blocking(Calls.snapshots)
    latest_snapshot = _blocking(Calls.latest_snapshot)
    publish = _blocking(Calls.publish)
    publish_payload = _blocking(Calls.publish_payload)

    def close(self) -> None:
        """Close its connections; what still streams is cancelled."""
        self._http().close()

    def _connected(self) -> httpx.Client:
        way = self._transport or (httpx.HTTPTransport() if is_here(self.settings) else None)
        return httpx.Client(transport=way, **options(self.settings))

    def _exchange(self) -> "_Exchange":
        return _Exchange(self._http(), self.settings, self._sleep)

    def _batches(self, flow: Flow) -> Generator[Batch, None, None]:
        with self._exchange() as exchange:
            while (batch := exchange.run(flow.next())) is not None:
                yield batch


class _Exchange(Closing):
    """One call: at most one answer is open, and it is closed at the end."""

    def __init__(self, http: httpx.Client, settings: ClientSettings, sleep: Callable[[float], None]) -> None:
        self._http, self._settings, self._sleep = http, settings, sleep
        self._process = os.getpid()
        self._answer: httpx.Response | None = None
        self._parts: Iterator[bytes] = iter(())

    def run(self, op: Op[T]) -> T:
        """Run a call, or a part of one, to its end. Raises what it raises, and `InvalidValue` for a stream of another
        process."""
        if self._process != os.getpid():
            raise InvalidValue("this stream was begun before the process forked: begin it in the process that reads it")
        return drive(op, self._do)

    def _do(self, effect: Effect) -> Any:
        match effect:
            case Ask():
                return self._ask(effect)
            case Read():
                return self._read()
            case Pause(seconds):
                self.close()
                self._sleep(seconds)
            case Work(do):
                return do()
            case _:
                raise AssertionError(effect)

    def _ask(self, ask: Ask) -> Head:
        self.close()
        sent = request(self._http, self._settings, ask)
        try:
            self._answer = self._http.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise unreachable(error, str(sent.url), begun=False) from error
        self._parts = self._answer.iter_bytes()
        return Head(self._answer.status_code, self._answer.headers, str(sent.url))

    def _read(self) -> bytes:
        try:
            return next((part for part in self._parts if part), b"")
        except httpx.HTTPError as error:
            assert self._answer is not None
            raise unreachable(error, str(self._answer.url), begun=True) from error

    def close(self) -> None:
        if self._answer is not None and self._process == os.getpid():  # or else it is still read where it was begun
            self._answer.close()
