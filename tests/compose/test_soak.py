"""Ten minutes under load: no process grows after it has warmed up, and no key stays that no open order owns."""

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.helpers.drill import ORDER, going_on
from tests.helpers.stack import RUNNING, Stack, out

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

SOAK_S = 600.0
WARM_S = 180.0
SAMPLE_S = 10.0
GONE_S = 180.0
"""After two minutes the gateway forgets the keys of requests whose images were all sent."""
GROWTH = 0.1
SMALL_MB = 30.0
"""What a process may grow by whatever its size: allocators and logs in memory."""
LASTING = re.compile(r"nonesuch:(bell|workers|worker:.*|rings|leases|deadlines|open:.*)")
"""Keys that no order owns: who is there, and indexes, which are empty without orders."""


def resident(stack: Stack) -> dict[str, float]:
    """MB of each program of each service, the sum of its processes."""
    found: dict[str, float] = defaultdict(float)
    for service in RUNNING:
        _, *processes = out("docker", "top", stack.container(service), "-eo", "pid,rss,comm").splitlines()
        for process in processes:
            _, kilobytes, program = process.split(maxsplit=2)
            found[f"{service}: {program}"] += int(kilobytes) / 1024
    return dict(found)


def test_ten_minutes_under_load_leave_no_trace(stack: Stack, say: Callable[[str], None]) -> None:
    samples: list[tuple[float, dict[str, float]]] = []
    began = time.monotonic()
    with going_on(stack.url) as (prober, orderer):
        while (passed := time.monotonic() - began) < SOAK_S:
            samples.append((passed, resident(stack)))
            time.sleep(SAMPLE_S)
    assert orderer.wrong == [] and len(orderer.done) > 10
    assert not prober.failures(began)
    say(f"soak: {len(orderer.done)} orders of {ORDER} images, {len(prober.seen)} requests")
    early = [sample for passed, sample in samples if WARM_S <= passed < WARM_S + 60]
    late = [sample for passed, sample in samples if passed >= SOAK_S - 60]
    for name in late[-1]:
        before, after = (statistics.median(sample.get(name, 0.0) for sample in part) for part in (early, late))
        say(f"soak: {name}: {before:.0f} MB, then {after:.0f} MB")
        assert after <= before * (1 + GROWTH) + SMALL_MB, f"{name} grows from {before:.0f} to {after:.0f} MB"
    stack.until(lambda: not left_behind(stack), f"keys that no order owns are gone: {left_behind(stack)[:10]}", GONE_S)


def left_behind(stack: Stack) -> list[str]:
    keys = stack.redis("operator", "--scan").split()
    return [key for key in keys if not LASTING.fullmatch(key)]
