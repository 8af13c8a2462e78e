"""What an elastic fleet asks an autoscaler for, and what it says when nobody listens."""

import logging
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from nonesuch.cli.main import make_app
from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidValue
from nonesuch.stats import Load
from nonesuch_worker.fleet.elastic import Elastic, Times
from nonesuch_worker.fleet.fleet import Node
from nonesuch_worker.fleet.nodes import SILENT_S, Answer, Bundle, ElasticNodes, RedisLoad

HEAD = Node("head", cpus=0, gpus=0)
SMALL = Node("small", cpus=2, gpus=0)
ALIKE = Node("alike", cpus=2, gpus=0)
BOX = Node("box", cpus=32, gpus=4)
BUSY = Load(workers=2, leased=2, claimable=100)


class FakeAutoscaler:
    def __init__(self, answer: Answer = "pending") -> None:
        self.asked: list[list[Bundle]] = []
        self.says: Answer = answer

    def ask(self, bundles: Sequence[Bundle]) -> None:
        self.asked.append(list(bundles))

    def answer(self) -> Answer:
        return self.says


def elastic(autoscaler: FakeAutoscaler, load: Load | None = BUSY) -> ElasticNodes:
    return ElasticNodes(autoscaler, lambda: load, policy=Elastic(Times(busy_s=3)))


def serve(nodes: ElasticNodes, *there: Node, seconds: int = 5, start: int = 0) -> list[Node]:
    for now in range(start, start + seconds):
        chosen = nodes.serving(there, {node.id for node in there}, float(now))
    return chosen


def test_it_asks_for_what_is_there_and_more_of_the_same_and_withdraws_it() -> None:
    autoscaler = FakeAutoscaler()
    nodes = elastic(autoscaler)
    assert serve(nodes, HEAD, SMALL, ALIKE) == [HEAD, SMALL, ALIKE]
    assert autoscaler.asked == [[], [{"CPU": 2}] * 4]  # first what an earlier fleet has asked for is withdrawn
    serve(nodes, HEAD, SMALL, ALIKE, start=5)
    assert len(autoscaler.asked) == 2
    nodes.close()
    assert autoscaler.asked[2:] == [[]]


def test_more_nodes_are_like_those_with_gpus() -> None:
    autoscaler = FakeAutoscaler()
    serve(elastic(autoscaler, Load(workers=6, leased=6, claimable=100)), SMALL, ALIKE, BOX)
    assert autoscaler.asked[-1] == [{"CPU": 2}, {"CPU": 2}, *[{"GPU": 4}] * 4]


def test_an_empty_cluster_gets_any_node() -> None:
    autoscaler = FakeAutoscaler()
    serve(elastic(autoscaler, Load(0, 0, 0)), HEAD)
    assert autoscaler.asked[-1] == [{"CPU": 1}]


def test_what_is_denied_is_halved_and_then_left() -> None:
    autoscaler = FakeAutoscaler()
    nodes = elastic(autoscaler)
    serve(nodes, SMALL, ALIKE, seconds=4)
    autoscaler.says = "denied"
    serve(nodes, SMALL, ALIKE, start=4)
    assert [len(bundles) for bundles in autoscaler.asked] == [0, 4, 3, 0]


def test_without_an_autoscaler_it_says_what_to_do_once(caplog: pytest.LogCaptureFixture) -> None:
    nodes = elastic(FakeAutoscaler("silent"))
    with caplog.at_level(logging.WARNING):
        serve(nodes, SMALL, seconds=int(SILENT_S))
        assert not caplog.records
        serve(nodes, SMALL, start=int(SILENT_S), seconds=50)
    (record,) = caplog.records
    assert "no autoscaler" in record.message
    assert "leave --elastic out" in record.message


def test_one_that_starts_a_little_later_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    autoscaler = FakeAutoscaler("silent")
    nodes = elastic(autoscaler)
    serve(nodes, SMALL, seconds=60)
    autoscaler.says = "pending"
    serve(nodes, SMALL, start=60, seconds=200)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_redis_that_is_away_is_no_load_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    load = RedisLoad(RedisSettings(url="redis://127.0.0.1:1/0"))
    assert [load(), load()] == [None, None]
    (record,) = caplog.records
    assert "no node is asked for or given up" in record.message


def test_elastic_needs_a_cluster() -> None:
    result = CliRunner().invoke(make_app(), ["worker", "--elastic"], env={"RAY_ADDRESS": ""})
    assert isinstance(result.exception, InvalidValue)
    assert "--address" in str(result.exception)
