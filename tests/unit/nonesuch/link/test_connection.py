"""What a Redis that is not there means to an operation: the same error, inside of it, for threads and event loops."""

import asyncio

import pytest

from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import Unreachable
from nonesuch.link import AsyncLink, Call, Link
from nonesuch.local.service import free_port


@pytest.fixture
def nowhere() -> RedisSettings:
    return RedisSettings(url=f"redis://127.0.0.1:{free_port()}/0")


def patient() -> Op[str]:
    try:
        yield Call("PING")
    except Unreachable as error:
        return f"went on after: {error}"
    return "answered"


def test_an_operation_on_a_thread_may_go_on(nowhere: RedisSettings) -> None:
    with Link(nowhere) as link:
        assert link.run(patient()).startswith(f"went on after: no answer from Redis at {nowhere.url}")
        with pytest.raises(Unreachable):
            link.ping()


def test_an_operation_in_an_event_loop_may_go_on(nowhere: RedisSettings) -> None:
    async def run() -> str:
        link = AsyncLink(nowhere)
        try:
            with pytest.raises(Unreachable):
                await link.ping()
            return await link.run(patient())
        finally:
            await link.close()

    assert asyncio.run(run()).startswith(f"went on after: no answer from Redis at {nowhere.url}")
