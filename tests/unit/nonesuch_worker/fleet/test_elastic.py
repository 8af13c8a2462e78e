"""When the fleet asks for nodes and when it gives some up, on a simulated cluster with an autoscaler."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from nonesuch.errors import InvalidValue
from nonesuch.stats import Load
from nonesuch_worker.fleet.elastic import CALM_S, DENIED_S, KEPT_S, SETTLE_S, Elastic, NodePlan, Times

TIMES = Times(busy_s=15, idle_s=300, rest_s=180)


@dataclass
class Cluster:
    """Nodes as an autoscaler like Ray's gives and ends them, one second at a time, and tickets that they work on."""

    least: int = 0
    most: int = 8
    there: int = 0
    room: int = 1
    """Workers on a node."""
    boot_s: int = 60
    ends_after_s: int = 60
    ticket_s: int = 5
    slots: int = 10**9
    """Tickets that may be in hand at once: the free slots of the ring."""
    policy: Elastic = field(default_factory=lambda: Elastic(TIMES))
    now: float = 0.0
    waiting: int = 0
    served: int = 0
    redis: bool = True
    plan: NodePlan = field(default_factory=NodePlan)
    plans: list[tuple[float, NodePlan, frozenset[str]]] = field(default_factory=list)
    _named: int = 0
    _idle_s: dict[str, int] = field(default_factory=dict)
    _coming: list[float] = field(default_factory=list)
    _hands: dict[str, list[int]] = field(default_factory=dict)
    """Node → the seconds that each of its workers still needs; 0: it is idle. No entry: no workers."""
    _denied: bool = False

    def __post_init__(self) -> None:
        for _ in range(max(self.there, self.least)):
            self._join()

    @property
    def nodes(self) -> set[str]:
        return set(self._idle_s)

    @property
    def serving(self) -> set[str]:
        return self.nodes - self.plan.resting

    @property
    def in_hand(self) -> int:
        return sum(left > 0 for hands in self._hands.values() for left in hands)

    def run(self, seconds: int, arriving: Callable[[float], int] = lambda now: 0) -> None:
        for _ in range(seconds):
            self.now += 1
            self.waiting += arriving(self.now)
            self._mint()
            self._decide()
            self._autoscale()

    def lose(self, node: str) -> None:
        """A machine is gone; its tickets are handed out again."""
        self.waiting += sum(left > 0 for left in self._hands.pop(node, []))
        del self._idle_s[node]

    def _decide(self) -> None:
        workers = sum(len(hands) for hands in self._hands.values())
        claimable = max(0, min(self.waiting, self.slots - self.in_hand))
        load = Load(workers, self.in_hand, claimable) if self.redis else None
        room = dict.fromkeys(sorted(self.nodes), self.room)
        self.plan = self.policy.step(self.now, room, load, working=set(self._hands), denied=self._denied)
        self.plans.append((self.now, self.plan, frozenset(self.nodes)))
        for node in self.nodes:
            if node in self.plan.resting:
                hands = [left for left in self._hands.get(node, []) if left > 0]  # they finish, and are gone then
                self._hands.pop(node, None)
                if hands:
                    self._hands[node] = hands
            elif len(self._hands.get(node, [])) < self.room:
                self._hands[node] = [*self._hands.get(node, []), *[0] * self.room][: self.room]

    def _mint(self) -> None:
        for node, hands in self._hands.items():
            for worker, left in enumerate(hands):
                self.served += left == 1
                hands[worker] = max(0, left - 1)
                if not hands[worker] and self.waiting and self.in_hand < self.slots and node in self.serving:
                    hands[worker] = self.ticket_s
                    self.waiting -= 1

    def _autoscale(self) -> None:
        have = len(self.nodes) + len(self._coming)
        self._denied = self.plan.asked > self.most  # such a request brings nothing
        wanted = max(self.least, 0 if self._denied else self.plan.asked)
        self._coming += [self.now + self.boot_s] * (wanted - have)
        for at in [at for at in self._coming if at <= self.now]:
            self._coming.remove(at)
            self._join()
        for node in sorted(self.nodes):
            self._idle_s[node] = 0 if node in self._hands else self._idle_s[node] + 1
            if self._idle_s[node] > self.ends_after_s and len(self.nodes) > max(self.least, self.plan.asked):
                del self._idle_s[node]

    def _join(self) -> None:
        self._named += 1
        self._idle_s[f"n{self._named:03}"] = 0


def changes(values: Iterable[object]) -> list[object]:
    """Without repetitions."""
    seen: list[object] = []
    for value in values:
        if not seen or seen[-1] != value:
            seen.append(value)
    return seen


def asked(cluster: Cluster) -> list[object]:
    return changes(plan.asked for _, plan, _ in cluster.plans)


def test_a_backlog_doubles_the_nodes_until_the_autoscaler_has_no_more() -> None:
    cluster = Cluster(least=1, most=6)
    cluster.run(14, lambda now: 1000 * (now == 1))
    assert asked(cluster) == [0]
    cluster.run(600)
    assert len(cluster.serving) == 6
    assert asked(cluster)[:10] == [0, 2, 0, 4, 0, 8, 6, 0, 12, 9]
    cluster.waiting = 0
    cluster.run(900)
    assert len(cluster.nodes) == 1
    assert not cluster.waiting


def test_what_the_autoscaler_may_not_have_is_asked_for_seldom() -> None:
    cluster = Cluster(least=2, most=2)
    cluster.run(1000, lambda now: 2)
    times = [now for now, plan, _ in cluster.plans if plan.asked]
    assert len(cluster.serving) == 2
    starts = [a for a, b in zip(times, [0.0, *times], strict=False) if a - b > 1]
    assert len(starts) <= 1 + 1000 / DENIED_S


def test_no_more_nodes_than_tickets_wait() -> None:
    cluster = Cluster(least=4, ticket_s=60)
    cluster.run(60, lambda now: 5 * (now == 2))
    assert max(asked(cluster)) == 5  # four in hand, and one that waits
    roomy = Cluster(least=2, ticket_s=60, room=4)
    roomy.run(60, lambda now: 13 * (now == 2))
    assert max(asked(roomy)) == 4  # eight in hand, and five that wait for two nodes


def test_nodes_that_would_wait_for_room_in_a_ring_are_not_asked_for() -> None:
    cluster = Cluster(least=2, slots=2)
    cluster.run(600, lambda now: 5)
    assert asked(cluster) == [0]


def test_a_moment_of_load_brings_nothing() -> None:
    cluster = Cluster(least=1)
    cluster.run(3600, lambda now: 3 * (now % 20 == 0))  # 15 s of work, less than 15 s of it with some that waits
    assert asked(cluster) == [0]


def test_gaps_between_tickets_do_not_hide_the_load() -> None:
    policy, nodes = Elastic(TIMES), {"a": 1}
    for now in range(30):
        plan = policy.step(float(now), nodes, Load(1, now % 2, 9))
    assert plan.asked == 2


def test_nothing_more_is_asked_for_while_new_workers_load_their_generators() -> None:
    policy = Elastic(TIMES)
    busy = {"claimable": 50, "leased": 2}
    for now in range(20):
        plan = policy.step(float(now), {"a": 1}, Load(workers=1, **busy))
    assert plan.asked == 2
    for now in range(20, 120):
        plan = policy.step(float(now), {"a": 1, "b": 1}, Load(workers=1, **busy))
        assert plan.asked == 2
    steps = [policy.step(now, {"a": 1, "b": 1}, Load(workers=2, **busy)).asked for now in (120.0, 121.0)]
    assert steps == [0, 4]


def test_a_worker_that_never_comes_up_holds_up_nothing_for_ever() -> None:
    policy = Elastic(TIMES)
    for now in range(15 + int(SETTLE_S) + 20):
        nodes = {"a": 1} if now < 20 else {"a": 1, "b": 1}
        plan = policy.step(float(now), nodes, Load(workers=1, leased=2, claimable=50))
    assert plan.asked == 4


def test_a_request_is_withdrawn_when_the_load_is_gone() -> None:
    cluster = Cluster(least=1, boot_s=10**6)  # machines that never come
    cluster.run(60, lambda now: 15 * (now == 1))
    assert cluster.plan.asked == 2
    cluster.run(100 + int(CALM_S))
    assert cluster.plan.asked == 0


def test_an_empty_cluster_gets_one_node() -> None:
    cluster = Cluster(least=0)
    cluster.run(600)
    assert len(cluster.serving) == 1
    assert asked(cluster) == [1, 0]


def test_an_autoscaler_without_a_fitting_node_is_asked_again_later() -> None:
    cluster = Cluster(least=0, most=0)
    cluster.run(30)
    assert cluster.plan.asked == 0
    cluster.most = 1
    cluster.run(int(DENIED_S) + 90)
    assert len(cluster.serving) == 1


def test_a_light_load_keeps_the_oldest_nodes_that_it_needs() -> None:
    cluster = Cluster(least=0, there=6)
    cluster.run(1000, lambda now: 2 * (now % 20 == 0))
    assert cluster.serving == {"n001", "n002"} == cluster.nodes


def test_a_node_with_many_workers_goes_only_if_the_others_have_room_for_the_load() -> None:
    cluster = Cluster(least=0, there=3, room=4)
    cluster.run(1000, lambda now: 5 * (now % 20 == 0))
    assert cluster.serving == {"n001", "n002"}


def test_a_node_that_the_autoscaler_keeps_serves_again_and_is_left_alone() -> None:
    cluster = Cluster(least=3)
    cluster.run(3000)
    resting = [plan.resting for _, plan, _ in cluster.plans]
    assert changes(resting) == [frozenset(), {"n002", "n003"}, frozenset()]
    assert sum(map(bool, resting)) <= TIMES.rest_s + 2
    cluster.least = 1  # somebody lowers the bound
    cluster.run(int(KEPT_S))
    assert cluster.nodes == {"n001"}


def test_nodes_that_always_serve_are_not_given_up() -> None:
    cluster = Cluster(least=0, there=4, policy=Elastic(TIMES, least=2))
    cluster.run(int(KEPT_S))
    assert cluster.nodes == cluster.serving == {"n001", "n002"}


def test_load_that_comes_back_takes_a_node_into_service_at_once() -> None:
    cluster = Cluster(least=0, there=2)
    cluster.run(310)
    assert cluster.plan.resting == {"n002"}
    cluster.run(3, lambda now: 20)
    assert cluster.serving == {"n001", "n002"}


def test_when_those_that_serve_are_lost_one_that_rests_takes_over() -> None:
    cluster = Cluster(least=0, there=2)
    cluster.run(310)
    cluster.lose("n001")
    cluster.redis = False
    cluster.run(1)
    assert cluster.serving == {"n002"}


def test_a_worker_that_takes_long_to_finish_does_not_make_its_node_look_kept() -> None:
    policy, nodes, idle = Elastic(TIMES), {"a": 1, "b": 1}, Load(2, 1, 0)
    for now in range(1000):
        plan = policy.step(float(now), nodes, idle, working={"a", "b"})
    assert plan.resting == {"b"}
    for now in range(1000, 1000 + int(TIMES.rest_s) + 1):
        plan = policy.step(float(now), nodes, idle, working={"a"})
    assert plan.resting == frozenset()


def test_without_redis_nothing_is_decided() -> None:
    cluster = Cluster(least=0, there=3)
    cluster.redis = False
    cluster.run(1000, lambda now: now < 100)
    assert changes(plan for _, plan, _ in cluster.plans) == [NodePlan()]
    cluster.redis = True
    cluster.run(int(TIMES.idle_s) - 1)  # what was before is not known
    assert changes(plan for _, plan, _ in cluster.plans) == [NodePlan()]
    cluster.run(120)
    assert len(cluster.nodes) == 1


def test_a_restarted_fleet_goes_on_from_what_is_there() -> None:
    cluster = Cluster(least=1, most=4)
    cluster.run(400, lambda now: 2)
    assert len(cluster.nodes) == 4
    cluster.policy = Elastic(TIMES)
    cluster.run(100, lambda now: 2)
    assert len(cluster.serving) == 4


def test_times_that_cannot_work_are_refused() -> None:
    with pytest.raises(InvalidValue, match="idle_s is 0"):
        Times(idle_s=0)
    with pytest.raises(InvalidValue, match="busy_s is nan"):
        Times(busy_s=float("nan"))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_load(seed: int) -> None:
    dice = random.Random(seed)
    least, most = sorted(dice.choices(range(1, 10), k=2))
    cluster = Cluster(
        least=dice.choice([0, least]),
        most=most,
        room=dice.choice([1, 1, 2, 4]),
        boot_s=dice.choice([5, 60, 240]),
        ticket_s=dice.choice([1, 5, 20]),
        slots=dice.choice([4, 64, 10**6]),
    )
    total = 0
    for _ in range(8):  # phases of load, from none to far too much
        rate, period = dice.choice([0.0, 0.03, 0.2, 1.0]), dice.choice([1, 30, 400])

        def arriving(now: float, rate: float = rate, period: int = period) -> int:
            nonlocal total
            came = round(rate * period) if now % period == 0 else 0
            total += came
            return came

        cluster.redis = dice.random() > 0.1
        if cluster.nodes and dice.random() < 0.2:
            cluster.lose(dice.choice(sorted(cluster.nodes)))
        cluster.run(dice.randrange(60, 900), arriving)
    cluster.redis = True
    while cluster.served < total:  # no ticket is lost with a node that is given up
        before = cluster.served
        cluster.run(400)
        assert cluster.served > before
    cluster.run(1200)
    assert cluster.served == total
    assert len(cluster.nodes) == max(1, cluster.least)
    assert cluster.serving
    check_plans(cluster)


def check_plans(cluster: Cluster) -> None:
    """What holds at every moment."""
    last_up = float("-inf")
    given_up: dict[str, float] = {}
    for (_, before, _), (now, plan, nodes) in zip(cluster.plans, cluster.plans[1:], strict=False):
        assert plan.resting <= nodes
        assert plan.resting != nodes or not nodes  # somebody serves
        assert not (plan.resting and plan.asked)  # it does not pull in both directions
        if plan.asked > before.asked:
            assert plan.asked <= max(1, 2 * len(nodes))
            last_up = now
        for node in plan.resting - before.resting:
            assert now - last_up >= TIMES.idle_s  # nothing is given up soon after more was asked for
            assert now - given_up.get(node, float("-inf")) >= TIMES.idle_s  # nor again and again
            given_up[node] = now
