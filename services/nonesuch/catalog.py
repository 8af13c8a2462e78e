"""What the live workers offer: their generators and strategies, and themselves.

Every worker writes one JSON document under its own key and renews it as a heartbeat; the key's time to live removes
it with the worker. The catalogue is the union of the documents that are there, so it cannot go stale, and a
restarted Redis is filled again by the next heartbeat. Gateway and clients validate against it without importing a
single generator or strategy.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from nonesuch.errors import GeneratorNotFound, NoWorkers
from nonesuch.ledger import RealInformation
from nonesuch.link.keys import Keys
from nonesuch.link.link import Call, Op
from nonesuch.model import Frozen, Name
from nonesuch.tally import NOTHING, Tally

HEARTBEAT_S = 2.0
HEARTBEAT_TTL_S = 10.0


class GeneratorInfo(Frozen):
    """One hosted generator, as far as anybody outside the worker needs to know it."""

    id: Name
    family: Name
    """The plug-in that loads it: `analytic`, `biggan`, `compact`, or an entry point of somebody else's."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the weights (for `analytic`, which has none: of its parameters as JSON)."""
    image_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 images it mints."""
    class_names: tuple[str, ...]
    z_dim: int = Field(ge=1)
    differentiable: bool = True
    max_sigma: float = 1.0
    """The largest σ of z ~ N(0, σ²I) that makes sense for it."""
    license: str = "unknown"
    real_information: RealInformation = "labelled"
    """The real information that its training used."""
    description: str = ""
    card: dict[str, Any] = Field(default_factory=dict)
    """What else its card says: how the network is built and was trained, on what data, and its metrics."""


class StrategyInfo(Frozen):
    """One strategy: its parameters as JSON Schema, and what an order that names it must have."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema", serialization_alias="schema")
    needs_snapshot: bool = False
    needs_teacher: bool = False
    """Always; a parameter whose schema says `"needs": "teacher"` needs one when it is true."""
    needs_gradient: bool = False
    mixes: bool = False
    """It may be given several generators."""
    rejects: bool = False
    """It may leave indices out that it could not fill."""


class Counted(Frozen):
    """What a worker's tickets of one strategy and the same generators have tried."""

    strategy: Name
    generators: tuple[Name, ...]
    counters: dict[str, int]
    """As `Tally.from_counters` reads them."""


class WorkerInfo(Frozen):
    """A worker's heartbeat."""

    id: str
    host: str
    pid: int
    device: str
    threads: int | None = None
    """CPU threads of its tensor work; None: it does not say."""
    block_faults: int | None = None
    """What `host.allocator.block_faults` found in it: about 0 if it keeps large blocks; None: it does not say."""
    started: float
    """Unix time, seconds."""
    tickets: int = 0
    """Tickets committed since it started."""
    images: int = 0
    generators: tuple[GeneratorInfo, ...]
    strategies: tuple[StrategyInfo, ...]
    tallies: tuple[Counted, ...] = ()
    """What its choosy strategies have tried since it started."""


class Catalog(Frozen):
    """The union of what the live workers offer."""

    workers: tuple[WorkerInfo, ...] = ()

    @property
    def generators(self) -> dict[str, GeneratorInfo]:
        return {g.id: g for w in self.workers for g in w.generators}

    @property
    def strategies(self) -> dict[str, StrategyInfo]:
        return {s.name: s for w in self.workers for s in w.strategies}

    @property
    def tallies(self) -> dict[tuple[str, tuple[str, ...]], Tally]:
        """What the live workers have tried since they started, by strategy and generators."""
        sums: dict[tuple[str, tuple[str, ...]], Tally] = {}
        for counted in (c for worker in self.workers for c in worker.tallies):
            key = (counted.strategy, counted.generators)
            sums[key] = sums.get(key, NOTHING) + Tally.from_counters(counted.counters)
        return sums

    def generator(self, generator_id: str) -> GeneratorInfo:
        """The generator of that id. Raises `NoWorkers` when nobody is there, `GeneratorNotFound` with what is."""
        if not self.workers:
            raise NoWorkers("no worker is connected to this Redis: start one with `nonesuch worker` or `nonesuch up`")
        try:
            return self.generators[generator_id]
        except KeyError:
            offered = ", ".join(sorted(self.generators)) or "none"
            raise GeneratorNotFound(f"no worker hosts a generator {generator_id!r}; hosted now: {offered}") from None


def announce(keys: Keys, worker: WorkerInfo) -> Op[None]:
    """Write a worker's heartbeat; it is gone `HEARTBEAT_TTL_S` after the last one."""
    document = worker.model_dump_json(by_alias=True)
    yield Call("SET", keys.worker(worker.id), document, "PX", int(HEARTBEAT_TTL_S * 1000))
    yield Call("SADD", keys.workers, worker.id)


def withdraw(keys: Keys, worker_id: str) -> Op[None]:
    """Take a worker out of the catalogue at once (it stops in good order)."""
    yield Call("DEL", keys.worker(worker_id))
    yield Call("SREM", keys.workers, worker_id)


def read_catalog(keys: Keys) -> Op[Catalog]:
    """The catalogue of this moment; names of workers whose heartbeat has lapsed are cleaned up on the way."""
    ids: list[bytes] = sorted((yield Call("SMEMBERS", keys.workers)))
    if not ids:
        return Catalog()
    documents: Iterable[bytes | None] = yield Call("MGET", *(keys.worker(i.decode()) for i in ids))
    live = []
    for worker_id, document in zip(ids, documents, strict=True):
        if document is None:
            yield Call("SREM", keys.workers, worker_id)
        else:
            live.append(WorkerInfo.model_validate_json(document))
    return Catalog(workers=tuple(live))
