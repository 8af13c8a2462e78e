"""What Redis' errors mean to whoever asked: one table for both links."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from nonesuch.config import RedisSettings
from nonesuch.errors import Busy, NonesuchError, ServiceError, Unreachable

_TROUBLE = (RedisConnectionError, RedisTimeoutError, ResponseError, OSError)


@contextmanager
def translated(settings: RedisSettings) -> Iterator[None]:
    """Raises `Unreachable`, `Busy` and `ServiceError` in the place of Redis' own errors. Those that say what is wrong
    with a call itself pass.
    """
    try:
        yield
    except _TROUBLE as error:
        if (meant := _meaning(error, settings)) is None:
            raise
        raise meant from error


def _meaning(error: Exception, settings: RedisSettings) -> NonesuchError | None:
    if isinstance(error, OutOfMemoryError):
        return Busy("Redis has no memory left (maxmemory): use smaller rings, or give it more")
    why = str(error).rstrip(".")
    if isinstance(error, NoPermissionError) or _is_refused_script(error):
        return ServiceError(
            f"Redis at {settings.safe_url} does not let us do this: {why}. If its users come from `nonesuch init`, "
            "run that again and restart Redis"
        )
    if isinstance(error, AuthenticationError):
        return Unreachable(
            f"Redis at {settings.safe_url} does not let us in: {why}. Give user and password with "
            "NONESUCH_REDIS_USERNAME and NONESUCH_REDIS_PASSWORD_FILE"
        )
    if isinstance(error, ResponseError):
        return None
    return Unreachable(
        f"no answer from Redis at {settings.safe_url}: {why}. Is it running? Set NONESUCH_REDIS_URL, "
        "or start everything on this machine with `nonesuch up`"
    )


def _is_refused_script(error: Exception) -> bool:
    """Whether a script may not do what it does; there is no class of its own for that."""
    return "The user executing the script can't run this command" in str(error)
