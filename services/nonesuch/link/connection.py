"""The links to Redis, which drive operations: `Link` on a thread, `AsyncLink` in an event loop.

    batch = link.run(take(keys, "smoothing", timeout_s=30))          # blocks this thread
    batch = await alink.run(take(keys, "smoothing", timeout_s=30))   # blocks this task

Neither retries by itself: every operation is safe to repeat, and the caller knows best whether to.
"""

import asyncio
from functools import partial
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError
from redis.retry import Retry

from nonesuch.config import RedisSettings
from nonesuch.effects import Effect, Op, T, adrive, drive
from nonesuch.host.contexts import Closing
from nonesuch.host.owners import PerLoop, PerProcess
from nonesuch.link.commands import Call, command
from nonesuch.link.keys import Keys
from nonesuch.link.pool import Pool, Room
from nonesuch.link.refusals import translated

MAX_CONNECTIONS = 1024
"""How many connections one link has at most, unless it is told: a blocking call has one for itself."""
READ_BYTES = 2**20
"""How many bytes of a socket are read at a time. Batches have megabytes."""


class _Credentials(CredentialProvider):
    """Reads the password at every connect, so that one that was changed needs no restart."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._settings.password() or ""
        return (password,) if self._settings.username is None else (self._settings.username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def _options(settings: RedisSettings) -> dict[str, Any]:
    tcp_only = {} if settings.url.startswith("unix:") else {"socket_keepalive": True}
    password = {} if settings.password_file is None else {"credential_provider": _Credentials(settings)}
    authority = {} if settings.ca_file is None else {"ssl_ca_certs": str(settings.ca_file)}
    return {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.connect_timeout_s,
        "decode_responses": False,
        "socket_read_size": READ_BYTES,
        **tcp_only,
        **password,
        **authority,
    }


class Link(Closing):
    """Runs operations and blocks the calling thread. Safe to share between threads, and with a process that was forked,
    which has connections of its own.
    """

    def __init__(self, settings: RedisSettings | None = None) -> None:
        self.settings = settings or RedisSettings.from_env()
        self.keys = Keys(self.settings.namespace)
        self._redis = PerProcess(self._connected)

    def _connected(self) -> redis.Redis:
        return redis.Redis.from_url(
            self.settings.url,
            max_connections=MAX_CONNECTIONS,
            retry=Retry(NoBackoff(), 0),
            **_options(self.settings),
        )

    def run(self, op: Op[T]) -> T:
        """Run an operation to its end. Raises what it raises, and unless it catches them `Unreachable`, `Busy` and
        `Refused` for a Redis that does not do what it is asked.
        """
        return drive(op, self._do)

    def _do(self, effect: Effect) -> Any:
        assert isinstance(effect, Call), effect
        with translated(self.settings):
            return self._reply(effect)

    def _reply(self, call: Call) -> Any:
        send: Any = self._redis().execute_command
        try:
            return send(*command(call, by_hash=True))
        except NoScriptError:
            return send(*command(call, by_hash=False))

    def ping(self) -> None:
        """Raises `Unreachable` unless Redis answers."""
        self.run(_ping())

    def close(self) -> None:
        self._redis().close()


class AsyncLink:
    """Runs operations and blocks the calling task only. Each event loop has connections of its own: `connections` at
    most, of which one that waits in a blocking command has one for itself (`pool`).
    """

    def __init__(self, settings: RedisSettings | None = None, *, connections: int = MAX_CONNECTIONS) -> None:
        self.settings = settings or RedisSettings.from_env()
        self.keys = Keys(self.settings.namespace)
        self._connections = connections
        self._redis = PerLoop(self._connected)
        self._room = PerLoop(partial(Room, connections))

    def _connected(self) -> redis.asyncio.Redis:
        pool = Pool.from_url(
            self.settings.url,
            max_connections=self._connections,
            retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
            **_options(self.settings),
        )
        return redis.asyncio.Redis.from_pool(pool)

    async def run(self, op: Op[T]) -> T:
        """Run an operation to its end. Raises what it raises, and unless it catches them `Unreachable`, `Busy` and
        `Refused` for a Redis that does not do what it is asked; `Busy` too when no connection came free in time.
        """
        return await adrive(op, self._do)

    async def _do(self, effect: Effect) -> Any:
        assert isinstance(effect, Call), effect
        async with self._room().taken():
            with translated(self.settings):
                return await self._reply(effect)

    async def _reply(self, call: Call) -> Any:
        send: Any = self._redis().execute_command
        try:
            reply = await send(*command(call, by_hash=True))
        except NoScriptError:
            reply = await send(*command(call, by_hash=False))
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # before 3.12, wait_for drops one that comes with its result
            raise asyncio.CancelledError
        return reply

    async def ping(self) -> None:
        """Raises `Unreachable` unless Redis answers."""
        await self.run(_ping())

    async def close(self) -> None:
        await asyncio.shield(self._redis().aclose())


def _ping() -> Op[None]:
    yield Call("PING")


def check_writable(keys: Keys) -> Op[None]:
    """Do nothing, in a way that takes a Redis with this database that takes writes: to answer a PING it need not.

    Raises `Unreachable` and `Refused`.
    """
    yield Call("DEL", keys.nothing)
