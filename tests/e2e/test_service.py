"""Ray, Redis and workers together: the same bytes from any fleet, and nothing lost when a worker is killed."""

import os
import signal
from pathlib import Path

import pytest

from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.orders import place
from nonesuch.rings import Delivery, OrderEnd, close_ring, open_ring, release, take
from tests.helpers.counters import open_orders
from tests.helpers.service import RING, eventually, keys_of, order, serving, workers


def collect(link: Link, after: int = 0, then: object = None) -> tuple[dict[int, bytes], OrderEnd]:
    """Every ticket's bytes and the end; calls `then` once `after` tickets are there."""
    batches: dict[int, bytes] = {}
    while not isinstance(taken := link.run(take(link.keys, RING, timeout_s=60)), OrderEnd):
        assert isinstance(taken, Delivery)
        assert taken.ticket not in batches
        batches[taken.ticket] = taken.payload
        if callable(then) and len(batches) == after:
            then()
        link.run(release(link.keys, RING, taken))
    link.run(release(link.keys, RING, taken))
    return batches, taken


@pytest.mark.timeout(180)
def test_one_worker_and_three_make_the_same_bytes_and_leave_nothing(redis_url: str, tmp_path: Path) -> None:
    seen = []
    for fleet in (1, 3):
        with serving(RedisSettings(url=redis_url), tmp_path, workers=fleet, threads=1) as (_, link):
            assert [worker.threads for worker in workers(link)] == [1] * fleet
            link.run(open_ring(link.keys, RING))
            link.run(place(link.keys, order(count=2000)))
            batches, end = collect(link)
            assert (end.state, end.rows) == ("done", 2000)
            seen.append(batches)
            link.run(close_ring(link.keys, "test"))
            eventually(lambda link=link: sum(w.images for w in workers(link)) == 2000)  # their heartbeats count them
    assert sorted(seen[0]) == list(range(32))
    assert seen[0] == seen[1]
    with Link(RedisSettings(url=redis_url)) as link:
        assert keys_of(link) == set()


@pytest.mark.timeout(180)
def test_a_worker_killed_in_mid_ticket_loses_nothing(redis_url: str, tmp_path: Path) -> None:
    with serving(RedisSettings(url=redis_url), tmp_path, workers=2) as (_, link):
        victim = workers(link)[0]
        link.run(open_ring(link.keys, RING))
        link.run(place(link.keys, order(count=20_000, ticket_size=256)))
        batches, end = collect(link, after=5, then=lambda: os.kill(victim.pid, signal.SIGKILL))
        assert (end.state, end.rows) == ("done", 20_000)
        assert sorted(batches) == list(range(79))
        assert link.run(open_orders(link.keys)) == 0
        link.run(close_ring(link.keys, "test"))
        # The fleet puts another in its place.
        eventually(lambda: len(workers(link)) == 2 and victim.id not in {w.id for w in workers(link)}, 60)
