"""Fixtures that every kind of test shares: a real Redis, private to the session, empty for each test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nonesuch.config import RedisSettings
from nonesuch.host.process import STARTED_AGAIN
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes run tests, spread the files of e2e: each starts all of the service, and Ray, while it
    starts, takes every core. A file's tests stay together.
    """
    if not hasattr(config, "workerinput"):
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    services = [file for file in files if file.parent.name == "e2e"]
    others = [file for file in files if file not in services]
    between = len(others) // max(1, len(services) - 1)
    for number, service in enumerate(services):
        others.insert(number * (between + 1), service)
    items[:] = [item for file in others for item in files[file]]


@pytest.fixture(scope="session", autouse=True)
def _interrupts_reach_what_tests_start() -> None:
    """Shells start background jobs with SIGINT ignored, and so would be whatever a test starts to interrupt it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Hugging Face's library, which asks no hub and keeps its caches to itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def _flush():
    yield Call("FLUSHALL")
