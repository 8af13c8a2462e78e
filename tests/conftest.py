"""Fixtures that every kind of test shares: a real Redis, private to the session, empty for each test."""

import os
from collections.abc import Iterator

import pytest

from nonesuch.config import RedisSettings
from nonesuch.link import Call, Link
from nonesuch.private_redis import PrivateRedis
from nonesuch.process import STARTED_AGAIN

SERVICES = 2
"""How many of the tests in e2e run at a time: each starts all of the service, and Ray takes every core meanwhile."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run tests, those of a file stay together, as they share what is slow to start."""
    services = sorted({item.path for item in items if item.path.parent.name == "e2e"})
    for item in items:
        together = f"service {services.index(item.path) % SERVICES}" if item.path in services else str(item.path)
        item.add_marker(pytest.mark.xdist_group(together))


@pytest.fixture(scope="session", autouse=True)
def _this_process_stays() -> Iterator[None]:
    """A command that is called here does not start pytest again; in a process of its own it does as for its users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STARTED_AGAIN, str(os.getpid()))
        yield


@pytest.fixture(scope="session")
def session_redis() -> Iterator[PrivateRedis]:
    """One redis-server for the whole session. A test that kills or restarts a server starts its own."""
    with PrivateRedis(max_memory_mb=512) as private:
        yield private


@pytest.fixture
def redis_url(session_redis: PrivateRedis) -> str:
    """The URL of an empty Redis."""
    with Link(RedisSettings(url=session_redis.url)) as link:
        link.run(_flush())
    return session_redis.url


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    """A link to an empty Redis."""
    with Link(RedisSettings(url=redis_url)) as link:
        yield link


def _flush():
    yield Call("FLUSHALL")
