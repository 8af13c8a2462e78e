"""A fixed dataset that is grown with hard samples (Besnier et al. 2019, Alg. 1).

    M at random ─► ┌─► learn ─► publish ─► mine M with it ─► append ─► checkpoint ─┐ ─► N images ─► the run begins
                   └──────────────────── (N − M) / M steps ────────────────────────┘

The collecting classifier goes on learning from step to step, at a constant rate, and is then thrown away: the run's own
starts from scratch. As printed the algorithm mines N/M times and returns N + M images; here the last step stops at N.
Images that a strategy could not make, or that came too late, are reported and not ordered again: so every step ends.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from nonesuch.host.files import write_atomically
from nonesuch.host.stopping import check
from nonesuch.link import Link
from nonesuch.seeds import key
from nonesuch.smoothed.source import OnProgress
from nonesuch_trainer.learning.checkpoint import Checkpoint, RunState
from nonesuch_trainer.learning.epoch import Learned, learn, make_classifier
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.learning.published import snapshot
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.reporting.progress import RunReporter
from nonesuch_trainer.settings.datasets import Collected
from nonesuch_trainer.settings.identity import RunIdentity
from nonesuch_trainer.settings.learning import Learning
from nonesuch_trainer.sources.minted import MintedSource
from nonesuch_trainer.sources.source import First, Fresh

COLLECTING = "collecting.safetensors"
"""The checkpoint of a run that collects its dataset; its state's epoch is the number of steps that are done."""
RECORDS = "collecting.jsonl"
"""The records of a run that collects its dataset, a line for each step: an `EpochRecord` of its last epoch, and of what
was mined after it; `epoch` is the step."""


class CollectedSource(MintedSource):
    """A `Source` whose first dataset, grown with hard samples, is all there is.

    Raises, when it is made, what `MintedSource` raises.
    """

    def __init__(
        self,
        dataset: Collected,
        link: Link,
        how: Learning,
        identity: RunIdentity,
        folder: Path,
        *,
        name: str,
        resume: bool,
        stop: threading.Event,
        reporter: RunReporter,
    ) -> None:
        """`how` says how the run's classifier and the collecting one learn; `folder` gets checkpoint and records."""
        super().__init__(dataset, link, name=name, seed=how.seed, stop=stop, say=reporter.say)
        self._collected, self._how, self._identity, self._folder = dataset, _phase(how), identity, folder
        self._resume, self._stop, self._reporter = resume, stop, reporter

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        """Grow the dataset, or go on where a run that was stopped had left off.

        Raises what `MintedSource` raises when it orders and collects, what `learn` and `Checkpoint.load` raise, and
        `Stopped`.
        """
        wanted, how, ledger = self._collected, self._how, self.facts.ledger
        model = make_classifier(how, self.facts.image_shape, len(self.facts.class_names), device)
        optimiser = make_optimiser(model, how.optimiser)
        path, facts = self._folder / COLLECTING, self.facts
        saved = Checkpoint(path, self._identity, facts.origins, model, optimiser, facts.real)
        if not self._resume:
            saved.discard()
        state = saved.load(device)
        if state is None:
            start = super().first(device, on_progress)
            state = RunState(epoch=0, step=0, history=(), resident=start.dataset, tally=start.tally)
            saved.save(state)
        else:
            self._reporter.say(f"going on from {saved.path}, after step {state.epoch} of {wanted.steps}")

        for step in range(state.epoch + 1, wanted.steps + 1):
            what = f"collecting {len(state.resident)}/{wanted.size}"
            learned = _train(model, optimiser, state, how, wanted.epochs_per_step, self._between(what))
            self.publish(snapshot(model, how, self.facts, ledger, epoch=step, step=learned.step))
            self.order(birth=step, version=step)
            fresh = self.collect(step, partial(self._reporter.advance, what))
            state = _grown(state, step, learned, fresh)
            self._record(state)
            saved.save(state)
        if len(state.resident) < wanted.size:
            self._reporter.say(
                f"collected {len(state.resident)} of {wanted.size} images: see {RECORDS} for what is short"
            )
        births = torch.zeros_like(state.resident.births)  # the run's own epochs are counted from here
        return First(replace(state.resident, births=births), state.tally)

    def _between(self, what: str) -> Callable[[int, int], None]:
        def between(done: int, total: int) -> None:
            check(self._stop)
            self._reporter.advance(what, done, total)

        return between

    def _record(self, state: RunState) -> None:
        lines = "".join(f"{record.model_dump_json()}\n" for record in state.history)
        write_atomically(self._folder / RECORDS, lines.encode())
        last = state.history[-1]
        short = f", {last.short} of {last.ordered} short" if last.short else ""
        self._reporter.say(
            f"collected {len(state.resident)}/{self._collected.size} images{short}: loss {last.loss:.4f} before the "
            f"last {last.replaced} were mined, waited {last.wait_s:.1f} s"
        )


def _phase(how: Learning) -> Learning:
    """How the collecting classifier learns: as the run's, with random numbers of its own and a rate that stays."""
    constant = how.optimiser.model_copy(update={"milestones": (), "warmup_epochs": 0.0})
    return how.model_copy(update={"seed": key(how.seed, "collecting"), "optimiser": constant})


def _train(
    model: nn.Module,
    optimiser: torch.optim.SGD,
    state: RunState,
    how: Learning,
    epochs: int,
    between: Callable[[int, int], None],
) -> Learned:
    """Train for some epochs on what there is so far (line 16 of Alg. 1). The steps are those of the whole phase."""
    before = state.epoch * epochs
    for epoch in range(before, before + epochs):
        learned = learn(model, optimiser, state.resident, how, epoch, between)
    return replace(learned, step=state.step + epochs * state.resident.steps(how.batch_size))


def _grown(state: RunState, step: int, learned: Learned, fresh: Fresh) -> RunState:
    """The state with what was mined appended (line 18 of Alg. 1)."""
    record = EpochRecord(epoch=step, **asdict(learned), **fresh.numbers)
    return RunState(
        epoch=step,
        step=learned.step,
        history=(*state.history, record),
        resident=state.resident.extended(fresh.came.images, birth=step),
        tally=state.tally + fresh.came.tally,
    )
