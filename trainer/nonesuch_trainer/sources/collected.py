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

import torch
from torch import nn

from nonesuch.host.files import write_atomically
from nonesuch.host.stopping import check
from nonesuch.link.connection import Link
from nonesuch.seeds import key
from nonesuch.smoothed.supply import OnProgress
from nonesuch_trainer.learning.checkpoint import Checkpoint, RunState
from nonesuch_trainer.learning.epoch import Learned, learn, make_classifier
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.reporting.events import EpochRecord
from nonesuch_trainer.reporting.progress import Reporter
from nonesuch_trainer.settings.config import Collected, TrainConfig
from nonesuch_trainer.sources.minted import MintedSource
from nonesuch_trainer.sources.source import First, Fresh

COLLECTING = "collecting.safetensors"
"""The checkpoint of this phase; its state's epoch is the number of steps that are done."""
RECORDS = "collecting.jsonl"
"""A line for each step: an `EpochRecord` of its last epoch, and of what was mined after it; `epoch` is the step."""


class CollectedSource(MintedSource):
    """A `Source` whose first dataset is all there is. Raises, when it is made, what `MintedSource` raises."""

    def __init__(
        self, config: TrainConfig, link: Link, *, resume: bool, stop: threading.Event, reporter: Reporter
    ) -> None:
        super().__init__(config, link, stop=stop, say=reporter.say)
        self._resume, self._stop, self._reporter = resume, stop, reporter

    def first(self, device: torch.device, on_progress: OnProgress) -> First:
        """Grow the dataset, or go on where a run that was stopped had left off.

        Raises what `MintedSource` raises when it orders and collects, what `learn` and `Checkpoint.load` raise, and
        `Stopped`.
        """
        wanted = self._dataset
        assert isinstance(wanted, Collected)
        phase = _phase(self._config)
        model = make_classifier(phase, self.facts.image_shape, len(self.facts.class_names), device)
        optimiser = make_optimiser(model, phase.optimiser)
        saved = Checkpoint(self._config, self.facts.origins, model, optimiser, COLLECTING)
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
            learned = _train(model, optimiser, state, phase, wanted.epochs_per_step, self._between(what))
            self.publish(model, epoch=step, step=learned.step, ledger=self.facts.ledger)
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
        write_atomically(self._config.folder / RECORDS, lines.encode())
        last = state.history[-1]
        short = f", {last.short} of {last.ordered} short" if last.short else ""
        self._reporter.say(
            f"collected {len(state.resident)}/{self._dataset.size} images{short}: loss {last.loss:.4f} before the last "
            f"{last.replaced} were mined, waited {last.wait_s:.1f} s"
        )


def _phase(config: TrainConfig) -> TrainConfig:
    """The run's config for the collecting classifier: random numbers of its own, and a rate that stays."""
    constant = config.optimiser.model_copy(update={"milestones": (), "warmup_epochs": 0.0})
    return config.model_copy(update={"seed": key(config.seed, "collecting"), "optimiser": constant})


def _train(
    model: nn.Module,
    optimiser: torch.optim.SGD,
    state: RunState,
    phase: TrainConfig,
    epochs: int,
    between: Callable[[int, int], None],
) -> Learned:
    """Line 16: some epochs on what there is so far. The steps are those of the whole phase."""
    before = state.epoch * epochs
    for epoch in range(before, before + epochs):
        learned = learn(model, optimiser, state.resident, phase, epoch, between)
    return replace(learned, step=state.step + epochs * state.resident.steps(phase.batch_size))


def _grown(state: RunState, step: int, learned: Learned, fresh: Fresh) -> RunState:
    """Line 18: what was mined is appended."""
    record = EpochRecord(epoch=step, **asdict(learned), **fresh.numbers)
    return RunState(
        epoch=step,
        step=learned.step,
        history=(*state.history, record),
        resident=state.resident.extended(fresh.images, birth=step),
        tally=state.tally + fresh.tally,
    )
