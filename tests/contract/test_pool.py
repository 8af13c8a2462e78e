"""An event loop's connections to Redis: bounded, waited for, and closed again after a burst."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import Busy
from nonesuch.link import AsyncLink, Call, Link, pool
from nonesuch.link import connection as connections
from nonesuch.local.private_redis import PrivateRedis

SIZE = 4


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    """The URL of a Redis that nobody else has connections to."""
    with PrivateRedis(max_memory_mb=16) as private:
        yield private.url


def clients() -> Op[int]:
    """How many connections Redis has, without the one that asks."""
    info = yield Call("INFO", "clients")
    return int(info["connected_clients"]) - 1


def blocking(seconds: float) -> Op[object]:
    return (yield Call("BLPOP", "nowhere", str(seconds)))


def with_link(own_redis: str, use: Callable[[AsyncLink], Awaitable[None]]) -> None:
    async def run() -> None:
        link = AsyncLink(RedisSettings(url=own_redis), connections=SIZE)
        try:
            await use(link)
        finally:
            await link.close()

    asyncio.run(run())


async def eventually(link: AsyncLink, number: int) -> None:
    async with asyncio.timeout(10):
        while await link.run(clients()) != number:
            await asyncio.sleep(0.01)


def test_a_burst_waits_for_its_turn(own_redis: str) -> None:
    async def use(link: AsyncLink) -> None:
        seen = await asyncio.gather(*(link.run(clients()) for _ in range(50 * SIZE)))
        assert max(seen) < SIZE

    with_link(own_redis, use)


def test_who_waits_for_too_long_is_told_whose_limit_it_is(own_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WAIT_S", 0.1)

    async def use(link: AsyncLink) -> None:
        holding = [asyncio.create_task(link.run(blocking(0))) for _ in range(SIZE)]
        await asyncio.sleep(0)  # each takes its place before it waits for anything
        with pytest.raises(Busy, match=f"own limit of {SIZE} commands to Redis at once: .* within 0.1 s"):
            await link.ping()
        waiting = asyncio.create_task(link.ping())
        holding[0].cancel()
        await waiting
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        await asyncio.gather(*(link.ping() for _ in range(5 * SIZE)))  # every place is free again

    with_link(own_redis, use)


def test_after_a_burst_most_connections_are_closed(own_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.1)
    monkeypatch.setattr(pool, "KEPT", 2)

    async def use(link: AsyncLink) -> None:
        for _ in range(2):
            await asyncio.gather(*(link.run(blocking(0.05)) for _ in range(SIZE)))
            assert await link.run(clients()) == SIZE - 1
            await eventually(link, 1)
        await link.ping()

    with_link(own_redis, use)


def test_threads_are_told_whose_limit_it_is(own_redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    with Link(RedisSettings(url=own_redis)) as link:
        held = link._redis().connection_pool.get_connection()
        with pytest.raises(Busy, match="this process' own limit of connections to"):
            link.ping()
        link._redis().connection_pool.release(held)
        link.ping()
