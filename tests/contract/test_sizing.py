"""The formulas of `nonesuch doctor --plan` against what a real Redis says of itself."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from urllib.parse import urlsplit

import pytest

from nonesuch.config import RedisSettings
from nonesuch.doctor.sizing import CONNECTION_BYTES, ORDER_BYTES, REDIS_BYTES, allocated, snapshot_bytes
from nonesuch.link import Call, Link
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.orders import check_order, place
from nonesuch.rings import open_ring
from nonesuch.snapshots import SnapshotHeader, publish
from nonesuch.tickets import claim, commit
from tests.helpers.fakes import CATALOG, order, ring

SMALL = 512 * 1024
"""What names and descriptors take in these tests at most, and a histogram that Redis keeps of every command."""


@pytest.fixture
def private() -> Iterator[PrivateRedis]:
    """A Redis that has held nothing yet."""
    with PrivateRedis(max_memory_mb=256) as private:
        yield private


@pytest.fixture
def used(private: PrivateRedis) -> Iterator[Callable[[], int]]:
    """`used()`: bytes that Redis keeps when this is its only connection, so that no other has buffers."""

    def memory():
        while (yield Call("INFO", "clients"))["connected_clients"] > 1:
            pass  # one that was closed is gone in a moment
        return (yield Call("INFO", "memory"))

    with Link(RedisSettings(url=private.url)) as link:
        allocator = link.run(memory())["mem_allocator"]
        if not allocator.startswith("jemalloc"):
            pytest.skip(f"the formulas are of jemalloc, and this Redis has {allocator}")
        yield lambda: link.run(memory())["used_memory"]


Connect = Callable[[], Link]


@pytest.fixture
def connect(private: PrivateRedis) -> Connect:
    """A new connection; leaving it ends it."""
    return lambda: Link(RedisSettings(url=private.url))


@pytest.mark.parametrize("slot_bytes", [400_000, 2**20, 3_170_000])
def test_a_full_ring_takes_what_the_plan_says(connect: Connect, used: Callable[[], int], slot_bytes: int) -> None:
    slots = 16
    with connect() as link:
        link.run(open_ring(link.keys, ring(slots=slots, slot_bytes=slot_bytes)))
        link.run(place(link.keys, check_order(order("full", count=2 * slots + 2), CATALOG)))
    before = used()
    with connect() as link:
        for _ in range(slots):
            ticket = link.run(claim(link.keys, ["fake"]))
            assert ticket is not None
            assert link.run(commit(link.keys, ticket, os.urandom(slot_bytes), 2)) == "committed"
        assert link.run(claim(link.keys, ["fake"])) is None, "the ring is full"
    planned = slots * allocated(slot_bytes)
    assert planned <= used() - before <= planned + SMALL


def test_kept_snapshots_take_what_the_plan_says(connect: Connect, used: Callable[[], int]) -> None:
    size, kept, before = 9_000_000, 3, used()
    with connect() as link:
        for version in range(kept + 2):
            payload = os.urandom(size)
            header = SnapshotHeader(
                channel="run", version=version, architecture="any", image_shape=(4, 4, 1), classes=3, mean=(0.5,),
                std=(0.5,), epoch=version, step=version, sha256=sha256(payload).hexdigest(),
            )  # fmt: skip
            link.run(publish(link.keys, header, payload, keep=kept))
    planned = kept * snapshot_bytes(size)
    assert planned <= used() - before <= planned + SMALL


def test_a_batch_on_its_way_to_a_slow_reader_is_there_once_more(
    connect: Connect, private: PrivateRedis, used: Callable[[], int]
) -> None:
    size, readers = 3_170_000, 8
    with connect() as link:
        link.run(_set("batch", size))
    before = used()
    with ExitStack() as stack, connect() as link:
        for _ in range(readers):
            reader = stack.enter_context(socket.socket(socket.AF_UNIX))
            reader.connect(urlsplit(private.url).path)
            reader.sendall(b"GET batch\r\n")
            reader.recv(1)  # the answer is on its way, and goes no further
        sending = link.run(_used_memory()) - before
    assert readers * allocated(size) < sending < readers * (allocated(size) + CONNECTION_BYTES) + CONNECTION_BYTES


def test_orders_and_connections_are_small(connect: Connect, used: Callable[[], int]) -> None:
    before = used()
    assert before < REDIS_BYTES
    orders, connections = 200, 50
    with connect() as link:
        for i in range(orders):
            name = f"order-{i:049d}"  # as long as the gateway's
            link.run(open_ring(link.keys, ring(name, slots=8, slot_bytes=2**20, note="n" * 1500)))
            link.run(place(link.keys, check_order(order(f"{i:049d}", sink=name, count=10_000, deadline=1e12), CATALOG)))
    grown = used() - before
    assert 0.5 * ORDER_BYTES < grown / orders < ORDER_BYTES
    with ExitStack() as stack:
        links = [stack.enter_context(connect()) for _ in range(connections)]
        for link in links:
            link.ping()
        open_now = links[0].run(_used_memory()) - before - grown
    assert 0.5 * CONNECTION_BYTES < open_now / connections < CONNECTION_BYTES


def _set(key: str, size: int):
    yield Call("SET", key, os.urandom(size))


def _used_memory():
    return (yield Call("INFO", "memory"))["used_memory"]
