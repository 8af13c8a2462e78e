"""`docker compose up` on a real engine: what answers, what grows, and what stays behind.

The tests share one stack; the last one takes it down.
"""

import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from tests.helpers.stack import PROJECT, RUNNING, Stack, out

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

FAMILY = ["fashion-mnist", "fashion-mnist-concat", "fashion-mnist-s1"]
"""What ships with the package."""
IN_TIME_S = 30.0


def test_it_is_ready_and_mints_with_the_embedded_generator(stack: Stack) -> None:
    assert stack.ready() == {"status": "ready", "workers": 1, "generators": FAMILY}
    table = pa.ipc.open_stream(stack.mint(count=256, seed=7)).read_all()
    assert table.num_rows == 256
    assert table.column("index").to_pylist() == list(range(256))
    assert table.schema.field("image").type.shape == [28, 28, 1]
    assert set(table.column("label").to_pylist()) == set(range(10))


def test_the_fleet_grows_onto_new_containers_which_make_the_same_bytes(
    stack: Stack, say: Callable[[str], None]
) -> None:
    alone = stack.mint(count=1000, seed=3)
    stack("up", "--detach", "--no-recreate", "--scale", "worker=3")
    took = stack.until(lambda: stack.workers() == 3, "three workers in /v1/stats", IN_TIME_S)
    say(f"--scale worker=3: three workers after {took:.0f} s")
    assert stack.mint(count=1000, seed=3) == alone


def test_a_worker_that_is_taken_away_gives_its_ticket_back(stack: Stack) -> None:
    whole = stack.mint(count=5000, seed=4)
    with stack.in_flight(count=5000, seed=4) as reply:
        stack("up", "--detach", "--no-recreate", "--scale", "worker=1")
        assert reply.result() == whole
    stack.until(lambda: stack.workers() == 1, "one worker in /v1/stats")


def test_a_worker_that_is_killed_comes_back_by_itself(stack: Stack, say: Callable[[str], None]) -> None:
    whole = stack.mint(count=2000, seed=5)
    before = stack.get("/v1/stats")["workers"][0]["id"]
    with stack.in_flight(count=2000, seed=5) as reply:
        stack.kill("worker")
        took = stack.until(lambda: others(stack, before) == 1, "another worker", 120)
        say(f"a worker was killed: another one after {took:.0f} s")
        assert reply.result() == whole


def others(stack: Stack, worker: str) -> int:
    return len([each for each in stack.get("/v1/stats")["workers"] if each["id"] != worker])


def test_a_training_run_ends_with_an_accuracy(stack: Stack) -> None:
    small = ("--set", "epochs=3", "--set", "dataset.size=256")
    said = stack("run", "--rm", "-T", "trainer", "train", "configs/smoothing-hsm.toml", *small, timeout=300)
    assert "% on 10,000 images of fashion-mnist/test" in said
    kept = stack("run", "--rm", "-T", "--no-deps", "--entrypoint", "ls", "trainer", "runs/smoothing-hsm")
    assert {"summary.json", "checkpoint.safetensors"} <= set(kept.split())


def test_everything_stops_by_itself_and_leaves_nothing(stack: Stack) -> None:
    stack("stop")
    codes = [json.loads(line) for line in stack("ps", "--all", "--format", "json").splitlines()]
    assert {c["Service"]: c["ExitCode"] for c in codes} == dict.fromkeys((*RUNNING, "init"), 0)
    stack.down()
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in (("container", "ls", "--all"), ("volume", "ls"), ("network", "ls")):
        assert out("docker", *kind, "--quiet", "--filter", label) == ""
