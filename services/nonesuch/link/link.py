"""The wire to Redis: operations are written once and run either way.

An operation is a generator that yields `Call`s and receives their replies. It holds all of the logic and does no
I/O, so the trainer and the workers run it with `Link` and the gateway with `AsyncLink`; there are no twins to keep
alike.

    batch = link.run(take(keys, "smoothing", timeout_s=30))          # blocks this thread
    batch = await alink.run(take(keys, "smoothing", timeout_s=30))   # blocks this task

Neither retries by itself: every operation is safe to repeat, and the caller knows best whether to.
"""

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Self, TypeVar

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, OutOfMemoryError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from nonesuch.config import RedisSettings
from nonesuch.errors import Busy, NonesuchError, ServiceError, Unreachable
from nonesuch.link.keys import Keys

T = TypeVar("T")

MAX_CONNECTIONS = 1024
"""Of one link: a blocking call has a connection for itself."""
READ_BYTES = 2**20
"""What a socket is read by. Batches have megabytes."""


class Call:
    """One Redis command, or one of our scripts."""

    __slots__ = ("args", "script")

    def __init__(self, *args: Any, script: str | None = None) -> None:
        self.args = args
        self.script = script


Op = Generator[Call, Any, T]
"""An operation that ends in a T. Write `Op[None]`, `Op[Catalog]`, ..."""


def script(name: str, keys: Keys, *args: Any) -> Call:
    """A call of `lua/<name>.lua`. Its one KEYS entry is the namespace; the script builds the keys below it."""
    return Call(keys.namespace, *args, script=name)


@dataclass(frozen=True)
class _Source:
    text: str
    sha: str


@cache
def _source(name: str) -> _Source:
    folder = files("nonesuch.link") / "lua"
    text = (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()
    return _Source(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _command(call: Call, *, by_hash: bool) -> tuple[Any, ...]:
    if call.script is None:
        return call.args
    source = _source(call.script)
    return ("EVALSHA", source.sha, 1, *call.args) if by_hash else ("EVAL", source.text, 1, *call.args)


def _translate(error: Exception, settings: RedisSettings) -> NonesuchError:
    if isinstance(error, OutOfMemoryError):
        return Busy("Redis has no memory left (maxmemory): use smaller rings, or give it more")
    why = str(error).rstrip(".")
    if isinstance(error, NoPermissionError) or _is_refusal(error):
        return ServiceError(
            f"Redis at {settings.safe_url} does not let us do this: {why}. If its users come from `nonesuch init`, "
            "run that again and restart Redis"
        )
    if isinstance(error, AuthenticationError):
        return Unreachable(
            f"Redis at {settings.safe_url} does not let us in: {why}. Give user and password with "
            "NONESUCH_REDIS_USERNAME and NONESUCH_REDIS_PASSWORD_FILE"
        )
    return Unreachable(
        f"no answer from Redis at {settings.safe_url}: {why}. Is it running? Set NONESUCH_REDIS_URL, "
        "or start everything on this machine with `nonesuch up`"
    )


def _is_refusal(error: Exception) -> bool:
    """Whether a script may not do what it does; there is no class of its own for that."""
    return "The user executing the script can't run this command" in str(error)


_TROUBLE = (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, NoPermissionError, OSError)


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
        "max_connections": MAX_CONNECTIONS,
        **tcp_only,
        **password,
        **authority,
    }


class Link:
    """Runs operations and blocks the calling thread. Safe to share between threads."""

    def __init__(self, settings: RedisSettings | None = None) -> None:
        self.settings = settings or RedisSettings.from_env()
        self.keys = Keys(self.settings.namespace)
        self._redis = redis.Redis.from_url(self.settings.url, retry=Retry(NoBackoff(), 0), **_options(self.settings))

    def run(self, op: Op[T]) -> T:
        """Run an operation to its end. Raises `Unreachable`, `Busy`, and whatever the operation raises."""
        try:
            call = next(op)
            while True:
                try:
                    reply = self._call(call)
                except _TROUBLE as error:
                    raise _translate(error, self.settings) from error
                except ResponseError as error:
                    if _is_refusal(error):
                        raise _translate(error, self.settings) from error
                    call = op.throw(error)
                else:
                    call = op.send(reply)
        except StopIteration as end:
            value: T = end.value
            return value

    def _call(self, call: Call) -> Any:
        send: Any = self._redis.execute_command
        try:
            return send(*_command(call, by_hash=True))
        except NoScriptError:
            return send(*_command(call, by_hash=False))

    def ping(self) -> None:
        """Raises `Unreachable` unless Redis answers."""
        self.run(_ping())

    def close(self) -> None:
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncLink:
    """Runs operations and blocks the calling task only."""

    def __init__(self, settings: RedisSettings | None = None) -> None:
        self.settings = settings or RedisSettings.from_env()
        self.keys = Keys(self.settings.namespace)
        self._redis = redis.asyncio.Redis.from_url(
            self.settings.url, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), **_options(self.settings)
        )

    async def run(self, op: Op[T]) -> T:
        """Run an operation to its end. Raises `Unreachable`, `Busy`, and whatever the operation raises."""
        try:
            call = next(op)
            while True:
                try:
                    reply = await self._call(call)
                except _TROUBLE as error:
                    raise _translate(error, self.settings) from error
                except ResponseError as error:
                    if _is_refusal(error):
                        raise _translate(error, self.settings) from error
                    call = op.throw(error)
                else:
                    call = op.send(reply)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _call(self, call: Call) -> Any:
        send: Any = self._redis.execute_command
        try:
            reply = await send(*_command(call, by_hash=True))
        except NoScriptError:
            reply = await send(*_command(call, by_hash=False))
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # before 3.12, wait_for drops one that comes with its result
            raise asyncio.CancelledError
        return reply

    async def ping(self) -> None:
        """Raises `Unreachable` unless Redis answers."""
        await self.run(_ping())

    async def close(self) -> None:
        await asyncio.shield(self._redis.aclose())


def _ping() -> Op[None]:
    yield Call("PING")
