"""The fleet on a hand-made cluster: every seat is taken, whatever joins, leaves or dies."""

import itertools
from collections.abc import Collection, Hashable, Iterable, Sequence

import pytest

from nonesuch.errors import InvalidValue
from nonesuch_worker.fleet.fleet import Fleet, Node, Seat, seats


class FakeHost:
    """Workers are numbers; the test says who dies."""

    def __init__(self, *nodes: Node) -> None:
        self.cluster = list(nodes)
        self.seats: dict[int, Seat] = {}
        self.dead: dict[Hashable, str] = {}
        self.stopped: list[tuple[Hashable, float]] = []
        self.retired: list[Hashable] = []

    def nodes(self) -> list[Node]:
        return self.cluster

    def start(self, seat: Seat) -> Hashable:
        number = len(self.seats)
        self.seats[number] = seat
        return number

    def failure(self, worker: Hashable) -> str | None:
        return self.dead.get(worker)

    def retire(self, worker: Hashable) -> None:
        self.retired.append(worker)

    def stop(self, workers: Iterable[Hashable], grace_s: float) -> None:
        self.stopped += [(w, grace_s) for w in workers]


LAPTOP = Node("laptop", cpus=4, gpus=0)
BOX = Node("box", cpus=32, gpus=2)


def test_a_gpu_node_has_a_seat_for_each_gpu_and_every_node_divides_its_cores() -> None:
    wanted = sorted(seats([LAPTOP, BOX], workers=3))
    assert [(s.node, s.number, s.gpu, s.threads) for s in wanted] == [
        ("box", 0, True, 16),
        ("box", 1, True, 16),
        ("laptop", 0, False, 1),
        ("laptop", 1, False, 1),
        ("laptop", 2, False, 1),
    ]
    assert {s.threads for s in seats([LAPTOP], workers=1)} == {4}
    assert {s.threads for s in seats([LAPTOP], workers=8)} == {1}
    assert {s.threads for s in seats([LAPTOP, BOX], workers=3, threads=2)} == {2}


def test_a_node_without_cores_has_no_seat() -> None:
    assert seats([Node("head", cpus=0, gpus=0)], workers=2) == set()
    assert {s.node for s in seats([Node("head", cpus=0, gpus=0), LAPTOP], workers=2)} == {"laptop"}


def test_nodes_join_and_leave() -> None:
    host = FakeHost(LAPTOP)
    fleet = Fleet(host, workers=2)
    fleet.reconcile(0.0)
    host.cluster.append(BOX)
    fleet.reconcile(1.0)
    assert [s.node for s in host.seats.values()] == ["laptop", "laptop", "box", "box"]
    host.cluster.remove(LAPTOP)
    fleet.reconcile(2.0)
    assert sorted(host.stopped) == [(0, 10.0), (1, 10.0)]  # it may be leaving, not dead
    assert len(host.seats) == 4


def test_what_dies_is_restarted_ever_later_while_it_dies_young() -> None:
    host = FakeHost(LAPTOP)
    fleet = Fleet(host, workers=1, interval_s=1.0)
    starts = []
    for second in range(120):
        before = len(host.seats)
        fleet.reconcile(float(second))
        if len(host.seats) > before:
            starts.append(second)
            host.dead[before] = "killed"
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert gaps == [2, 3, 5, 9, 17, 31, 31]  # noticed one second later; the pause doubles up to 30 s


def test_a_worker_that_lived_long_is_restarted_at_once() -> None:
    host = FakeHost(LAPTOP)
    fleet = Fleet(host, workers=1, interval_s=1.0)
    fleet.reconcile(0.0)
    host.dead[0] = "killed"
    fleet.reconcile(100.0)
    fleet.reconcile(101.0)
    assert len(host.seats) == 2


def test_stopping_gives_every_worker_time_for_its_ticket() -> None:
    host = FakeHost(LAPTOP)
    fleet = Fleet(host, workers=2)
    fleet.reconcile(0.0)
    fleet.stop()
    fleet.run()
    assert host.stopped == [(0, 10.0), (1, 10.0)]


def test_a_fleet_of_no_workers_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least 1"):
        Fleet(FakeHost(), workers=0)


class Some:
    """Serves with the nodes that the test says."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.working: list[set[str]] = []
        self.closed = False

    def serving(self, nodes: Sequence[Node], working: Collection[str], now: float) -> list[Node]:
        self.working.append(set(working))
        return [node for node in nodes if node.id in self.names]

    def close(self) -> None:
        self.closed = True


def test_the_workers_of_a_node_that_does_not_serve_end_when_they_have_finished() -> None:
    host, some = FakeHost(LAPTOP, BOX), Some("laptop", "box")
    fleet = Fleet(host, workers=1, elastic=some)
    fleet.reconcile(0.0)
    assert {s.node for s in host.seats.values()} == {"laptop", "box"}
    some.names = {"laptop"}
    for second in range(1, 60):  # as long as their tickets take
        fleet.reconcile(float(second))
    retired = [number for number, seat in host.seats.items() if seat.node == "box"]
    assert host.retired == retired
    assert not host.stopped
    assert some.working[-1] == {"laptop", "box"}
    host.dead |= dict.fromkeys(retired, "it returned")
    fleet.reconcile(60.0)
    fleet.reconcile(61.0)
    assert some.working[-1] == {"laptop"}
    assert len(host.seats) == 3
    some.names.add("box")
    fleet.reconcile(62.0)
    assert len(host.seats) == 5  # they did not die, so there is no pause


def test_a_node_that_serves_again_waits_for_its_workers_to_have_finished() -> None:
    host, some = FakeHost(LAPTOP), Some("laptop")
    fleet = Fleet(host, workers=1, elastic=some)
    fleet.reconcile(0.0)
    some.names.clear()
    fleet.reconcile(1.0)
    some.names = {"laptop"}
    fleet.reconcile(2.0)
    assert (host.retired, len(host.seats)) == ([0], 1)
    host.dead[0] = "it returned"
    fleet.reconcile(3.0)
    assert len(host.seats) == 2


def test_a_node_that_leaves_while_its_workers_finish_gives_them_the_usual_time() -> None:
    host, some = FakeHost(LAPTOP), Some("laptop")
    fleet = Fleet(host, workers=1, elastic=some)
    fleet.reconcile(0.0)
    some.names.clear()
    fleet.reconcile(1.0)
    host.cluster.clear()
    fleet.reconcile(2.0)
    assert host.stopped == [(0, 10.0)]


def test_a_fleet_that_stops_says_so_to_who_chooses_its_nodes() -> None:
    some = Some()
    fleet = Fleet(FakeHost(), elastic=some)
    fleet.stop()
    fleet.run()
    assert some.closed
