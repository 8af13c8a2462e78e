"""The choice of a source by its URL. What a source takes is imported when it is chosen."""

import threading

from nonesuch.config import RedisSettings, validated
from nonesuch.smoothed.source import FreshSource


def open_source(url: str | None, stop: threading.Event, *, token: str | None, timeout_s: float) -> FreshSource:
    """The source at a URL: redis://, rediss:// and unix:// is Redis, anything else a gateway.

    `timeout_s` is how long it waits when nothing comes; `stop` ends every wait. Raises `Unreachable`, `NoWorkers`, and
    `InvalidValue` for a URL that cannot be one.
    """
    if url is not None and url.strip().startswith(("redis://", "rediss://", "unix://")):
        from nonesuch.smoothed.over_redis import RedisSource

        settings = RedisSettings.from_env()
        named = validated(RedisSettings, {**settings.model_dump(), "url": url}, "the URL of Redis")
        return RedisSource(named, timeout_s=timeout_s, stop=stop)
    from nonesuch.smoothed.over_http import HttpSource

    return HttpSource(url, token=token, timeout_s=timeout_s, stop=stop)
