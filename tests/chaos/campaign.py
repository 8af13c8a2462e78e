"""A campaign: so many faults, one after the other, and after each the whole service must be well again by itself.

Found is what must not be:

    a call of a client or a training run that failed, took too long, or gave other bytes than an undisturbed one
    a process that ended by itself, or that mints and is in no catalogue
    a client or a run that is not served any more after a fault has passed
    keys in Redis, when all readers are gone and what they abandoned has expired; processes, when all is stopped
"""

import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.loads import Clients, Found, Load, Training
from tests.chaos.world import ORDER_TTL_S, World, eventually, world

WELL_S = 180.0
"""How long after a fault everybody must have been served again: the outage itself is over."""
LONG_RUN_S = 600.0
"""How long a training run may take, however often it is disturbed."""
LASTING = frozenset({"bell", "workers", "worker", "tally", "once"})
"""Keys that no order owns, by what follows the namespace: of workers, and what Idempotency-Keys came to, for a day."""

Say = Callable[[str], None]


def run(seed: int, number: int, *, appendonly: bool, say: Say, only: str = "") -> dict[str, Any]:
    """Inflict so many faults; the report. `only` is a part of the names of those that may happen."""
    logging.getLogger("nonesuch.client").setLevel(logging.ERROR)  # it tells of every retry
    rng, began = random.Random(seed), time.monotonic()
    faults = [fault for fault in FAULTS if only in fault.name]
    events: list[dict[str, Any]] = []
    found: list[Found] = []
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nonesuch-chaos-", ignore_cleanup_errors=True))
        )
        try:
            with world(folder / "world", appendonly=appendonly) as made:
                loads, training = _loads(made, seed, say)
                try:
                    for count in range(number):
                        events.append(_inflict(count, rng.choice(faults), made, training, loads, rng, began, say))
                finally:
                    say("no more faults: what is under way may end")
                    for load in loads:
                        load.join()
                found += _after(made)
                for at, name, code, words in made.supervisor.ends:
                    found.append(Found(at, name, f"ended by itself with {code}: {words[-400:]}"))
                for load in loads:
                    found += load.found
        except AssertionError as error:
            found.append(Found(time.monotonic(), "harness", str(error)))
    found += [Found(began + event["at_s"], event["fault"], event["found"]) for event in events if event["found"]]
    return {
        "seed": seed,
        "appendonly": appendonly,
        "faults": len(events),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "by_fault": dict(sorted(Counter(event["fault"] for event in events).items())),
        "calls": {load.name: len(load.done) for load in loads},
        "slowest_s": {load.name: round(load.slowest_s, 1) for load in loads},
        "longest_recovery_s": max((event["well_after_s"] or 0 for event in events), default=0),
        "found": [
            {**asdict(each), "at": round(each.at - began, 1), "during": _during(each, events, began)} for each in found
        ],
        "events": events,
    }


def _loads(made: World, seed: int, say: Say) -> tuple[list[Load], Training]:
    say("learning what is right from a service that nothing disturbs")
    clients, training = Clients(made, made.url), Training(made)
    clients.learn()
    training.learn()
    loads = [*clients.loads(seed), training.load(seed)]
    for load in loads:
        load.start()
    return loads, training


def _inflict(
    count: int,
    fault: Fault,
    made: World,
    training: Training,
    loads: list[Load],
    rng: random.Random,
    began: float,
    say: Say,
) -> dict[str, Any]:
    at = time.monotonic()
    wrong, how = "", ""
    made.troubled = True
    try:
        how = fault.inflict(made, training, rng)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    healed = time.monotonic()
    clients = [load for load in loads if load.name != "train"]
    well = eventually(lambda: made.is_whole() and all(load.is_well(healed) for load in clients), WELL_S)
    made.troubled, now = False, time.monotonic()
    if not well:
        slow = [load.name for load in clients if not load.is_well(healed)]
        wrong += f" {WELL_S:.0f} s later not served: {slow}; workers seen: {_seen(made)}"
    for load in loads:
        if load.name == "train" and load.since is not None and now - load.since > LONG_RUN_S:
            wrong += f" a run has been going for {now - load.since:.0f} s"
    say(
        f"{count + 1:>4} {fault.name} ({how}): well after {now - healed:.1f} s, "
        f"{sum(len(load.found) for load in loads)} found of calls, {len(made.supervisor.ends)} of processes{wrong}"
    )
    return {
        "at_s": round(at - began, 1),
        "until_s": round(now - began, 1),
        "fault": fault.name,
        "how": how,
        "well_after_s": round(now - healed, 1) if well else None,
        "found": wrong.strip(),
    }


def _seen(made: World) -> str:
    try:
        return str(made.seen_workers())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _after(made: World) -> list[Found]:
    """What is left in Redis when everybody has gone."""

    def left() -> list[str]:
        return sorted(key for key in made.found_keys() if key.split(":")[1] not in LASTING)

    if eventually(lambda: not left(), 2 * ORDER_TTL_S + 60):
        return []
    return [Found(time.monotonic(), "Redis", f"keys that nobody owns: {left()[:20]}")]


def _during(each: Found, events: list[dict[str, Any]], began: float) -> str:
    """The fault that was going on, or the one before."""
    before = [event for event in events if event["at_s"] <= each.at - began + 1]
    return before[-1]["fault"] if before else "none"


def add(report: dict[str, Any], path: Path) -> None:
    """Put a report behind those that a file has."""
    before = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*before, report], indent=1) + "\n")
