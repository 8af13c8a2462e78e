"""What goes on while something is broken: a client that gives up at once, one that does not, and a training run.

    Prober   asks for a few images twice a second, without retries
    Orderer  mints thousands with the SDK, one order after the other, and compares each with the same images of before

Both are threads; `with` starts and stops them.
"""

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import nonesuch

PROBE = json.dumps({"count": 8, "seed": 1, "deadline_s": 10}).encode()
PROBE_S = 0.5
ORDER = 2000
"""Images of one order: half a minute's work for one worker at the most."""


@dataclass(frozen=True)
class Seen:
    """One probe."""

    at: float
    """When it was sent, by `time.monotonic`."""
    seconds: float
    what: str
    """"ok", or the status and the problem, or how the connection failed."""


class Background:
    """A thread that repeats a step until it is stopped."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def step(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.step()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()


class Prober(Background):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = f"{url}/v1/batches"
        self.seen: list[Seen] = []

    def step(self) -> None:
        began = time.monotonic()
        what = self._ask()
        self.seen.append(Seen(began, time.monotonic() - began, what))
        self._stopping.wait(PROBE_S)

    def _ask(self) -> str:
        request = urllib.request.Request(self._url, PROBE, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                reply.read()
                return "ok"
        except urllib.error.HTTPError as error:
            with error:
                kind = json.loads(error.read())["type"].rpartition(":")[2]
            return f"{error.code} {kind}"
        except OSError as error:
            reason = getattr(error, "reason", error)
            return type(reason).__name__

    def since(self, start: float) -> list[Seen]:
        return [each for each in self.seen if each.at + each.seconds >= start]

    def failures(self, start: float) -> Counter[str]:
        """What was seen that was not an answer, and how often."""
        return Counter(each.what for each in self.since(start) if each.what != "ok")

    def is_well(self, start: float, probes: int = 4) -> bool:
        """Whether so many of the last probes were sent after `start` and answered."""
        last = [each for each in self.seen if each.at >= start][-probes:]
        return len(last) == probes and all(each.what == "ok" for each in last)

    def away_s(self, start: float) -> float:
        """From `start` to the first answer after the last failure; 0 if there was none."""
        bad = [each.at + each.seconds for each in self.since(start) if each.what != "ok"]
        if not bad:
            return 0.0
        good = (each.at + each.seconds for each in self.seen if each.what == "ok" and each.at + each.seconds > bad[-1])
        return next(good) - start


class Orderer(Background):
    """Raises nothing: `wrong` says what went wrong."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._client = nonesuch.Client(url, retries=60, sleep=self._stopping.wait)
        self._expected = {seed: self._digest(seed) for seed in (11, 12)}
        self._seeds = self._alternating()
        self.done: list[tuple[float, float]] = []
        """Start and end of the orders that were whole, by `time.monotonic`."""
        self.wrong: list[str] = []

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._client.close()

    def _alternating(self) -> Iterator[int]:
        while True:
            yield from self._expected

    def _digest(self, seed: int) -> str:
        digest = hashlib.sha256()
        count = 0
        with self._client.stream(ORDER, seed=seed, deadline=600) as batches:
            for batch in batches:
                assert batch.indices.tolist() == list(range(count, count + len(batch)))
                count += len(batch)
                digest.update(batch.images.tobytes())
        assert count == ORDER
        return digest.hexdigest()

    def step(self) -> None:
        seed, began = next(self._seeds), time.monotonic()
        try:
            if self._digest(seed) != self._expected[seed]:
                self.wrong.append(f"seed {seed}: other images than before")
            else:
                self.done.append((began, time.monotonic()))
        except Exception as error:
            self.wrong.append(f"seed {seed}: {type(error).__name__}: {error}")

    def finished_across(self, moment: float) -> bool:
        """Whether an order that was open at that moment came to its end."""
        return any(began < moment < end for began, end in self.done)


@dataclass
class Table:
    """fault → what is seen → how long. Printed when it is complete, as Markdown."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, fault: str, failures: Counter[str], away_s: float, whole_s: float) -> None:
        seen = ", ".join(f"{what} ({n} times)" for what, n in failures.most_common()) or "nothing"
        self.rows.append({"fault": fault, "seen": seen, "away_s": round(away_s, 1), "whole_s": round(whole_s)})

    def __str__(self) -> str:
        head = "| fault | a client without retries sees | answers again after | all is as before after |\n"
        return f"{head}|---|---|---:|---:|\n" + "".join(
            f"| {row['fault']} | {row['seen']} | {row['away_s']} s | {row['whole_s']} s |\n" for row in self.rows
        )


@contextmanager
def going_on(url: str) -> Iterator[tuple[Prober, Orderer]]:
    """Both at work."""
    with Prober(url) as prober, Orderer(url) as orderer:
        yield prober, orderer
