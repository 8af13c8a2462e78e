"""What goes on while faults happen: clients of the SDK as a user has them, and training runs.

    client  waits for: its call ── unblocked by: the SDK, which has no other word from its user than the call itself
    trainer waits for: the end of a run ── unblocked by: it; one that was killed goes on from its checkpoint

Each result is compared, every byte of every column, with that of an undisturbed service.
"""

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors import safe_open

import nonesuch
from tests.chaos.parts import Part, python
from tests.chaos.world import World

IDENTITIES = frozenset({"order", "order_id"})
"""Columns that differ from one order to the next, however alike they are."""
LONGEST_S = 180.0
"""How long a call may take at most: an outage of a minute, its images, and whoever is before it."""

RECIPES: tuple[Mapping[str, Any], ...] = (
    {"count": 700, "seed": 11, "generator": "ten"},
    {"count": 500, "seed": 12, "generator": "four", "sigma": 1.2},
    {"count": 300, "seed": 13, "generator": "fashion-mnist"},
    {"count": 400, "seed": 14, "generator": "ten", "quota": None, "classes": [3, 1, 4]},
)


def digest(tables: Iterable[pa.Table | pa.RecordBatch]) -> str:
    """What tells every cell of every column that does not name an order."""
    batches = [b if isinstance(b, pa.RecordBatch) else b.combine_chunks().to_batches()[0] for b in tables]
    table = pa.Table.from_batches(
        [b.replace_schema_metadata(None) for b in batches], batches[0].schema.remove_metadata()
    )
    sha = hashlib.sha256()
    for name in sorted(set(table.column_names) - IDENTITIES):
        column = table[name].combine_chunks()
        values = column.storage if isinstance(column, pa.ExtensionArray) else column
        sha.update(name.encode())
        sha.update(repr(values.to_pylist()).encode())
    return f"{table.num_rows}:{sha.hexdigest()}"


@dataclass
class Found:
    """One thing that must not be."""

    at: float
    what: str
    detail: str


@dataclass
class Load:
    """A thread that calls again and again. `done` are the moments at which a call began whose result was right."""

    name: str
    step: Callable[[random.Random], str | None]
    """One call; what is wrong with its result, or None."""
    seed: int
    done: list[float] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self.since: float | None = None
        """When the call that is under way began."""
        self._thread = threading.Thread(target=self._run, name=self.name)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self.stopping.set()
        self._thread.join()

    def is_well(self, since: float) -> bool:
        """Whether a call that began after a moment has ended, and well."""
        return bool(self.done) and self.done[-1] >= since

    def _run(self) -> None:
        rng = random.Random(self.seed)
        while not self.stopping.is_set():
            self.since = began = time.monotonic()
            try:
                wrong = self.step(rng)
            except Exception as error:  # whatever it is, a user would have seen it
                wrong = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            self.slowest_s = max(self.slowest_s, took)
            if wrong is None and took > LONGEST_S:
                wrong = f"took {took:.0f} s"
            if wrong is None:
                self.done.append(began)
            else:
                self.found.append(Found(began, self.name, f"after {took:.1f} s: {wrong}"))
                self.stopping.wait(1.0)
        self.since = None


class Clients:
    """The calls of clients, and what they gave when nothing was disturbed."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url
        self._expected: dict[int, str] = {}
        self._numbers = itertools.count()

    def learn(self) -> None:
        """Take the service's answers for what is right: nothing disturbs it yet."""
        with nonesuch.Client(self._url) as client:
            for i, recipe in enumerate(RECIPES):
                self._expected[i] = digest(batch.arrow for batch in client.stream(**_asked(recipe)))

    def loads(self, seed: int) -> list[Load]:
        kinds = {"mint": self._mint, "stream": self._stream, "order": self._order, "export": self._export}
        return [Load(name, step, seed + i) for i, (name, step) in enumerate(kinds.items())]

    def _checked(self, i: int, batches: Iterable[pa.Table | pa.RecordBatch]) -> str | None:
        came = digest(batches)
        return None if came == self._expected[i] else f"recipe {i} is {came}, and was {self._expected[i]}"

    def _mint(self, rng: random.Random) -> str | None:
        i = rng.randrange(len(RECIPES))
        with nonesuch.Client(self._url) as client:
            return self._checked(i, [client.mint(**_asked(RECIPES[i])).arrow])

    def _stream(self, rng: random.Random) -> str | None:
        i = rng.randrange(len(RECIPES))
        with nonesuch.Client(self._url) as client:
            return self._checked(i, (batch.arrow for batch in client.stream(**_asked(RECIPES[i]))))

    def _order(self, rng: random.Random) -> str | None:
        i = rng.randrange(len(RECIPES))
        with nonesuch.Client(self._url) as client:
            placed = client.place_order(**_asked(RECIPES[i]))
            return self._checked(i, (batch.arrow for batch in client.order_results(placed.id)))

    def _export(self, rng: random.Random) -> str | None:
        i = rng.randrange(len(RECIPES))
        path = self._world.folder / f"export-{next(self._numbers)}.arrows"
        try:
            with nonesuch.Client(self._url) as client:
                client.export(path, **_asked(RECIPES[i]))
            with pa.ipc.open_stream(path) as reader:
                return self._checked(i, list(reader))
        finally:
            path.unlink(missing_ok=True)


def _asked(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if value is not None}


CONFIG = """
run = "chaos"
seed = 5
epochs = 12
batch_size = 64
[classifier]
architecture = "resnet18"
args = { width = 2 }
[dataset]
kind = "minted"
generators = ["fashion-mnist"]
size = 256
replacement = 0.5
fresh = [{ strategy = "random" }, { strategy = "hsm" }]
[evaluate]
split = "validation"
every = 100
"""


class Training:
    """Runs of one config, one after the other; each must leave the checkpoint that the undisturbed one left."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._config = world.folder / "run.toml"
        self._config.write_text(CONFIG)
        self._numbers = itertools.count()
        self._expected = ""
        self.part: Part | None = None
        """The run that is under way; faults may kill it."""

    def learn(self) -> None:
        """Train once, undisturbed. Raises `AssertionError` if that fails."""
        wrong, self._expected = self._run()
        assert wrong is None, wrong

    def load(self, seed: int) -> Load:
        return Load("train", lambda rng: self._again(), seed)

    def _again(self) -> str | None:
        wrong, came = self._run()
        if wrong is None and came != self._expected:
            wrong = f"the dataset is {came}, and was {self._expected}"
        return wrong

    def _run(self) -> tuple[str | None, str]:
        out = self._world.folder / f"run-{next(self._numbers)}"
        env = {"NONESUCH_REDIS_URL": self._world.redis_url("trainer")}
        options = ["train", self._config, "--set", f'out="{out}"']
        self.part = part = Part("trainer", python("nonesuch", *options), self._world.folder / "trainer.log", env)
        try:
            said = part.start()
            while True:
                if part.held or part.runs:
                    time.sleep(0.1)
                elif part.code == 0:
                    return None, _dataset(out)
                elif part.ended_by_itself() and not (self._world.troubled and "epoch" not in part.said_since(said)):
                    return f"the run ended with {part.code}: {part.last_words()}", ""
                else:  # it was killed, and goes on from its checkpoint; or began in a trouble, which it says at once
                    time.sleep(1.0)
                    said = part.start()
        finally:
            self.part = None
            part.kill()


def _dataset(out: Path) -> str:
    """What tells the resident dataset and the classifier of a run's last checkpoint."""
    sha = hashlib.sha256()
    with safe_open(out / "checkpoint.safetensors", "pt") as file:
        for name in sorted(file.keys()):
            if not name.startswith("dataset.order"):  # ids of orders are random
                sha.update(name.encode())
                sha.update(file.get_tensor(name).contiguous().view(-1).numpy().tobytes())
    return sha.hexdigest()
