"""A Redis that answers and refuses, for a while or for good: who waits, who ends in one line, and who goes on."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonesuch.catalog import announce, read_catalog
from nonesuch.cli.export import export
from nonesuch.cli.main import make_app
from nonesuch.config import RedisSettings
from nonesuch.doctor import checks
from nonesuch.errors import Occupied, Refused, RingClosed, Unreachable
from nonesuch.link import Link
from nonesuch.link.patience import Patience
from nonesuch.local.private_redis import PrivateRedis
from nonesuch.orders import check_order, place
from nonesuch.rings import open_ring
from nonesuch.smoothed.supply import reach
from nonesuch.tickets import Ticket
from nonesuch_worker.minting import loop as loop_module
from nonesuch_worker.minting.loop import TicketLoop
from tests.helpers.fakes import CATALOG, WORKER, order, ring
from tests.helpers.loops import RING, Minting, Watched, collect, working
from tests.helpers.refusing import REFUSALS, read_only, refusing, tell

REFUSING_S = 0.6
WAIT_S = 10.0


@pytest.fixture(scope="module")
def stubborn() -> Iterator[PrivateRedis]:
    """A Redis for this module alone, as it is told to refuse."""
    with PrivateRedis() as private:
        yield private


@pytest.fixture
def refused(stubborn: PrivateRedis) -> Iterator[Link]:
    """A link to a Redis that is empty but for a worker's heartbeat, and takes writes until it is told not to."""
    with Link(RedisSettings(url=stubborn.url)) as link:
        tell(link, "FLUSHALL")
        link.run(announce(link.keys, WORKER))
        yield link


def patience(link: Link, outage_s: float = WAIT_S) -> Patience:
    return Patience(link, outage_s=outage_s, stop=threading.Event(), say=lambda line: None)


@pytest.fixture(params=REFUSALS, ids=lambda refusal: refusal.__name__)
def refusal(request: pytest.FixtureRequest):
    return request.param


@pytest.fixture
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "HEARTBEAT_S", 0.05)


# -- workers ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_pulse")
def test_a_worker_outlives_a_refusal_in_the_midst_of_a_ticket_with_its_pulse(refused: Link, refusal) -> None:
    minting = threading.Event()

    def slowly(ticket: Ticket) -> None:
        minting.set()
        time.sleep(1.5 * REFUSING_S if ticket.number == 0 else 0)

    refused.run(open_ring(refused.keys, RING))
    with working(refused, Minting(slowly)):
        refused.run(place(refused.keys, order("o")))
        assert minting.wait(WAIT_S)
        with refusal(refused):
            time.sleep(REFUSING_S)
        batches, end = collect(refused)
        assert end.state == "done" and sorted(batches) == [0, 1, 2, 3, 4]
        assert "pulse" in {thread.name for thread in threading.enumerate()}
        assert [w.id for w in refused.run(read_catalog(refused.keys)).workers if w.id != WORKER.id] == []


@pytest.mark.usefixtures("quick_pulse")
def test_what_ends_the_pulse_ends_the_worker(refused: Link) -> None:
    broken = threading.Event()

    def before(name: str) -> None:
        if name == "announce" and broken.is_set():
            raise RuntimeError("a bug of ours")

    raised: list[BaseException] = []

    def run() -> None:
        try:
            loop.run()
        except RuntimeError as error:
            raised.append(error)

    with Watched(refused.settings, before) as link:
        loop = TicketLoop(link, Minting(), WORKER)
        thread = threading.Thread(target=run)
        thread.start()
        until = time.monotonic() + WAIT_S
        while "announce" not in link.operations and time.monotonic() < until:
            time.sleep(0.01)
        broken.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert [str(error) for error in raised] == ["a bug of ours"]
    assert refused.run(read_catalog(refused.keys)).workers == ()


@pytest.mark.usefixtures("quick_pulse")
def test_a_worker_that_cannot_announce_itself_claims_nothing(refused: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "HEARTBEAT_TTL_S", 0.2)
    unseen = threading.Event()
    unseen.set()

    def before(name: str) -> None:
        if name == "announce" and unseen.is_set():
            raise Refused("this user may claim, and not announce itself")

    refused.run(open_ring(refused.keys, RING))
    refused.run(place(refused.keys, order("o")))
    minting = Minting()
    with Watched(refused.settings, before) as link:
        loop = TicketLoop(link, minting, WORKER)
        thread = threading.Thread(target=loop.run)
        thread.start()
        time.sleep(REFUSING_S)
        assert minting.tickets == [] and "claim" not in link.operations
        unseen.clear()
        assert collect(refused)[1].state == "done"
        unseen.set()
        time.sleep(REFUSING_S)
        claims = link.operations.count("claim")
        time.sleep(REFUSING_S)
        assert link.operations.count("claim") == claims
        loop.stop()
        thread.join(WAIT_S)


# -- trainers --------------------------------------------------------------------------------------------------


def test_a_trainer_waits_for_a_refusal_to_pass(refused: Link, refusal) -> None:
    waiting = patience(refused)
    waiting.run(partial(open_ring, refused.keys, RING))
    with refusal(refused):
        threading.Timer(REFUSING_S, lambda: over.set()).start()
        over, done = threading.Event(), []
        thread = threading.Thread(target=lambda: done.append(waiting.run(partial(place, refused.keys, order("o")))))
        thread.start()
        assert over.wait(WAIT_S) and not done
    thread.join(WAIT_S)
    assert done == [None]


def test_a_trainer_does_not_wait_for_longer_than_it_was_told(refused: Link) -> None:
    refused.run(open_ring(refused.keys, RING))
    with read_only(refused), pytest.raises(Unreachable, match=r"read-only replica.*NONESUCH_REDIS_URL"):
        patience(refused, outage_s=0.3).run(partial(place, refused.keys, order("o")))


def test_at_the_start_one_that_loads_is_waited_for_and_a_replica_is_not(refused: Link) -> None:
    with refusing("LOADING Redis is loading the dataset in memory") as server, Link(server.settings) as link:
        threading.Timer(REFUSING_S, lambda: setattr(server, "says", "READONLY no")).start()
        began = time.monotonic()
        with pytest.raises(Unreachable, match="read-only replica"):
            reach(link, outage_s=WAIT_S, stop=threading.Event(), say=lambda line: None)
        assert time.monotonic() - began >= REFUSING_S / 2
        server.says = "LOADING still"
        with pytest.raises(Occupied, match="is loading its data"):
            reach(link, outage_s=0.2, stop=threading.Event(), say=lambda line: None)


# -- nonesuch order --------------------------------------------------------------------------------------------


def test_an_order_that_has_begun_outlives_a_refusal(refused: Link, refusal, tmp_path: Path) -> None:
    minted = threading.Event()

    def slowly(ticket: Ticket) -> None:
        if ticket.number == 2:
            minted.set()

    wanted = check_order(order("o", count=12), CATALOG)
    written = []
    with working(refused, Minting(slowly)):
        ask = partial(export, refused, wanted, ring(slots=3), tmp_path / "images.parquet", timeout_s=WAIT_S)
        thread = threading.Thread(target=lambda: written.append(ask()))
        thread.start()
        assert minted.wait(WAIT_S)
        with refusal(refused):
            time.sleep(REFUSING_S)
        thread.join(WAIT_S)
    assert [each.rows for each in written] == [12]


def test_an_order_whose_redis_was_restarted_says_so(tmp_path: Path) -> None:
    wanted = check_order(order("o", count=12), CATALOG)
    with PrivateRedis() as private, Link(RedisSettings(url=private.url)) as link:
        link.run(announce(link.keys, WORKER))

        def ask() -> None:
            with pytest.raises(RingClosed, match="restarted and has lost the order"):
                export(link, wanted, ring(), tmp_path / "images.parquet", timeout_s=WAIT_S)
            ended.set()

        ended = threading.Event()
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        private.kill()
        time.sleep(0.2)
        private.start()
        thread.join(WAIT_S)
        assert ended.is_set()


# -- in one line -----------------------------------------------------------------------------------------------


def finding(url: str, monkeypatch: pytest.MonkeyPatch) -> checks.Finding:
    monkeypatch.setenv("NONESUCH_REDIS_URL", url)
    [found] = [f for f in checks._redis(checks.Context()) if f.what == "redis"]
    return found


FINAL = {
    "a database that is not there": ("/16", None, "does not have this database"),
    "another program's keys": ("", ("SET", "nonesuch:workers", "text"), "keys of another program"),
}


@pytest.mark.parametrize("what", FINAL)
def test_what_needs_a_person_is_one_line_and_the_doctor_fails(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: PrivateRedis
) -> None:
    database, command, words = FINAL[what]
    url = stubborn.url + (f"?db={database[1:]}" if database else "")
    with Link(RedisSettings(url=stubborn.url)) as link:
        tell(link, "FLUSHALL")
        if command:
            tell(link, *command)
    found = finding(url, monkeypatch)
    assert found.verdict == "fail" and words in found.remedy
    done = CliRunner().invoke(make_app(), ["order", "4", "--out", str(tmp_path / "x.parquet")])
    assert isinstance(done.exception, Refused) and words in str(done.exception)


def test_the_doctor_fails_for_every_refusal(refused: Link, refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding(refused.settings.url, monkeypatch).verdict == "ok"
    with refusal(refused):
        found = finding(refused.settings.url, monkeypatch)
    assert found.verdict == "fail" and found.remedy.startswith("Redis at unix://")


def test_an_order_ends_at_once_at_a_replica(refused: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONESUCH_REDIS_URL", refused.settings.url)
    with read_only(refused):
        done = CliRunner().invoke(make_app(), ["order", "4", "--out", str(tmp_path / "x.parquet")])
    assert isinstance(done.exception, Unreachable) and "read-only replica" in str(done.exception)
