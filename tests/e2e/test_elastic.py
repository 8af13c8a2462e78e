"""A fleet that grows with its load and shrinks after it, with Ray's autoscaler, Redis and orders."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nonesuch.config import RedisSettings
from nonesuch.errors import RingClosed
from nonesuch.link import Link
from nonesuch.orders import place
from nonesuch.rings import Delivery, OrderEnd, RingSpec, close_ring, open_ring, release, take
from tests.helpers.autoscaling import IDLE_S, TOKEN, AutoscalingCluster, autoscaling
from tests.helpers.service import ANALYTIC, RING, eventually, order, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = RingSpec(name="load", slots=32, slot_bytes=262_144)
TIMES = {"NONESUCH_ELASTIC_BUSY_S": "3", "NONESUCH_ELASTIC_IDLE_S": "8", "NONESUCH_ELASTIC_REST_S": "20"}


@contextmanager
def fleet(cluster: AutoscalingCluster, redis_url: str, log: Path) -> Iterator[None]:
    """`nonesuch worker --elastic`, which ends with code 0 when it is told to."""
    env = os.environ | TOKEN | TIMES | {"NONESUCH_REDIS_URL": redis_url}
    command = [str(Path(sys.executable).with_name("nonesuch")), "worker", "--elastic", "--address", cluster.address]
    command += ["--generator", ANALYTIC]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@contextmanager
def load(link: Link) -> Iterator[None]:
    """More tickets than any fleet could make, and somebody who takes them."""
    link.run(open_ring(link.keys, LOAD))
    link.run(place(link.keys, order("load", count=10**7, ticket_size=256, sink="load", seed=3)))
    ended = threading.Event()

    def consume() -> None:
        while not ended.is_set():
            try:
                link.run(release(link.keys, LOAD, link.run(take(link.keys, LOAD, timeout_s=60))))
            except RingClosed:
                return

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        yield
    finally:
        ended.set()
        link.run(close_ring(link.keys, "load"))
        consumer.join()


def images(link: Link) -> dict[int, bytes]:
    """Every ticket of the same order."""
    link.run(open_ring(link.keys, RING))
    link.run(place(link.keys, order(count=2000, priority="interactive")))
    batches = {}
    while not isinstance(taken := link.run(take(link.keys, RING, timeout_s=60)), OrderEnd):
        assert isinstance(taken, Delivery)
        batches[taken.ticket] = taken.payload
        link.run(release(link.keys, RING, taken))
    assert (taken.state, taken.rows) == ("done", 2000)
    link.run(close_ring(link.keys, RING.name))
    return batches


@contextmanager
def elastic(least: int, most: int, redis_url: str, folder: Path) -> Iterator[tuple[AutoscalingCluster, Link]]:
    with (
        autoscaling(least, most) as cluster,
        Link(RedisSettings(url=redis_url)) as link,
        fleet(cluster, redis_url, folder / "fleet.log"),
    ):
        eventually(lambda: len(workers(link)) == max(1, least), 60)
        yield cluster, link
    assert not cluster.processes()


def test_the_fleet_grows_to_the_upper_bound_and_shrinks_to_the_lower(redis_url: str, tmp_path: Path) -> None:
    with elastic(1, 3, redis_url, tmp_path) as (cluster, link):
        before = images(link)
        assert cluster.nodes() == 1
        with load(link):
            eventually(lambda: cluster.nodes() == len(workers(link)) == 3, 90)
            assert images(link) == before
        eventually(lambda: cluster.nodes() == len(workers(link)) == 1, 90)
        assert images(link) == before


def test_an_empty_cluster_gets_a_node_that_stays(redis_url: str, tmp_path: Path) -> None:
    with elastic(0, 2, redis_url, tmp_path) as (cluster, link):
        assert images(link)
        time.sleep(3 * IDLE_S)
        assert cluster.nodes() == len(workers(link)) == 1


def test_a_node_that_the_autoscaler_keeps_serves_again(redis_url: str, tmp_path: Path) -> None:
    with elastic(2, 2, redis_url, tmp_path) as (cluster, link):
        eventually(lambda: len(workers(link)) == 1, 60)  # the other is given up
        eventually(lambda: len(workers(link)) == 2, 60)
        time.sleep(3 * IDLE_S)
        assert cluster.nodes() == len(workers(link)) == 2
