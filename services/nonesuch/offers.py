"""What workers offer: values without Redis, by which orders are checked and batches described."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from nonesuch.errors import GeneratorNotFound, InvalidOrder, NoWorkers
from nonesuch.labels import ClassNames
from nonesuch.ledger import Ledger, RealInformation, Use
from nonesuch.model import Frozen, Name
from nonesuch.tally import NOTHING, Tally

_SHA256 = re.compile(r"[0-9a-f]{64}")

NOBODY = "no worker is connected to this Redis: start one with `nonesuch worker` or `nonesuch up`"
"""What is said where a worker is needed and none is there."""
DEFAULT_GENERATOR = "fashion-mnist"
"""The generator that is meant where several are hosted and none is named."""


class GeneratorInfo(Frozen):
    """One hosted generator, as far as anybody outside the worker needs to know it."""

    id: Name
    family: Name
    """The plug-in that loads the generator: `analytic`, `biggan`, `compact`, or an entry point of somebody else's."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The sha256 of the weights (for `analytic`, which has none, that of its parameters as JSON)."""
    image_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 images that the generator mints."""
    class_names: ClassNames
    """The name of each class, by label."""
    z_dim: int = Field(ge=1)
    differentiable: bool = True
    max_sigma: float = 1.0
    """The largest σ of z ~ N(0, σ²I) that makes sense for the generator."""
    license: str = "unknown"
    real_information: RealInformation = "labelled"
    """The real information that the generator's training used."""
    description: str = ""
    card: dict[str, Any] = Field(default_factory=dict)
    """What else the generator's card says: how the network is built and was trained, on what data, and its metrics."""


class StrategyInfo(Frozen):
    """One strategy: its parameters as JSON Schema, and what an order that names it must have."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema", serialization_alias="schema")
    needs_snapshot: bool = False
    needs_teacher: bool = False
    """Whether it always needs a teacher. A parameter whose schema says `"needs": "teacher"` needs one if it is true."""
    needs_gradient: bool = False
    mixes: bool = False
    """Whether the strategy may be given several generators."""
    rejects: bool = False
    """Whether the strategy may leave indices out that it could not fill."""


class Counted(Frozen):
    """What a worker's tickets of one strategy and the same generators have tried."""

    strategy: Name
    generators: tuple[Name, ...]
    counters: dict[str, int]
    """The counts, by names that `Tally.from_counters` reads."""


class WorkerInfo(Frozen):
    """A worker's heartbeat."""

    id: str
    host: str
    pid: int
    device: str
    threads: int | None = None
    """CPU threads of the worker's tensor work; None: it does not say."""
    block_faults: int | None = None
    """What `host.allocator.block_faults` found there: about 0 if it keeps large blocks; None: it does not say."""
    started: float
    """When the worker started, in seconds of Unix time."""
    tickets: int = 0
    """How many tickets the worker has committed since it started."""
    images: int = 0
    generators: tuple[GeneratorInfo, ...]
    strategies: tuple[StrategyInfo, ...]
    tallies: tuple[Counted, ...] = ()
    """What the worker's choosy strategies have tried since it started."""


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

    def choose(self, named: str | None, default: str = DEFAULT_GENERATOR) -> GeneratorInfo:
        """The generator that is named, the only one that is hosted, or the default.

        Raises what `generator` raises, and `InvalidOrder` when several are hosted and the default is none of them.
        """
        hosted = sorted(self.generators)
        if named is None and len(hosted) > 1 and default not in hosted:
            raise InvalidOrder(
                f"several generators are hosted and none is the default: name one of {', '.join(hosted)}",
                field="generator",
            )
        return self.generator(named or (hosted[0] if len(hosted) == 1 else default))

    def generator(self, generator_id: str) -> GeneratorInfo:
        """The generator of that id. Raises `NoWorkers` when nobody is there, `GeneratorNotFound` with what is."""
        if not self.generators:
            raise NoWorkers(NOBODY)
        try:
            return self.generators[generator_id]
        except KeyError:
            offered = ", ".join(sorted(self.generators)) or "none"
            raise GeneratorNotFound(f"no worker hosts a generator {generator_id!r}; hosted now: {offered}") from None


def ledger_of_generators(generators: Iterable[GeneratorInfo]) -> Ledger:
    """The real information behind whatever these generators mint."""
    return Ledger(
        uses=tuple(
            Use(by=f"generator {g.id}", information=g.real_information, data=_data_of(g.card)) for g in generators
        )
    )


def _data_of(card: Mapping[str, Any]) -> str:
    """What a card's fingerprint tells its real images by (`realdata.fingerprint`); "" for a card that has none."""
    data = card.get("data")
    known = data.get("fingerprint") if isinstance(data, Mapping) else None
    digest = known.get("digest") if isinstance(known, Mapping) else None
    return f"sha256 of contents {digest}" if isinstance(digest, str) and _SHA256.fullmatch(digest) else ""
