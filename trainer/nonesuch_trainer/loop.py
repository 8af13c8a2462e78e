"""A training run: a classifier that learns from a resident dataset, part of which is replaced after every epoch.

    fill ─► ┌─► learn ─► publish ─► judge ─► collect r·N ─► replace ─► checkpoint ─┐
            └───────────────────────────── every epoch ────────────────────────────┘
    staleness 0: the r·N images are ordered after `publish`, aimed at that snapshot; the run waits while they are minted
                 (Besnier et al. 2019, Alg. 2, as printed)
    staleness 1: they are ordered before `learn`, aimed at the snapshot before; they are minted while the epoch learns

    loop      waits for: its images ──────────── unblocked by: the end of their order, the late policy, a stop
              between two steps it empties the ring without waiting, so that the workers go on
    signals   the first SIGINT or SIGTERM asks ─ every wait and every epoch ends by it, within a step or about a second

r = 0 is a fixed dataset, r = 1 continuous sampling. After the last epoch nothing is replaced.
"""

import threading
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nonesuch.errors import InvalidValue
from nonesuch.files import locked
from nonesuch.link import Link
from nonesuch.process import on_signal
from nonesuch_trainer.checkpoint import CHECKPOINT, Checkpoint, RunState
from nonesuch_trainer.config import Real, TrainConfig
from nonesuch_trainer.evaluate import Evaluation, Judge
from nonesuch_trainer.events import EpochRecord, Events
from nonesuch_trainer.learning import learn, make_classifier
from nonesuch_trainer.minting import MintedSource
from nonesuch_trainer.optim import make_optimiser
from nonesuch_trainer.progress import Reporter, reporting
from nonesuch_trainer.provenance import Provenance
from nonesuch_trainer.real import RealSource
from nonesuch_trainer.resident import ResidentDataset
from nonesuch_trainer.results import write_results
from nonesuch_trainer.seeds import numpy_rng, reproducible
from nonesuch_trainer.source import Source
from nonesuch_trainer.stopping import Stopped, check


@dataclass(frozen=True, eq=False)
class Result:
    """A run that is finished. `folder` holds what `results.write_results` writes."""

    folder: Path
    model: nn.Module
    dataset: ResidentDataset
    """What the last epoch learned from."""
    history: tuple[EpochRecord, ...]
    evaluation: Evaluation
    """On real images, after the last epoch."""
    provenance: Provenance


def train(
    config: TrainConfig, link: Link | None = None, *, resume: bool = True, stop: threading.Event | None = None
) -> Result:
    """Train a classifier. Blocks until it is trained.

    Args:
        link: to the service's Redis. A run on real images needs none.
        resume: go on from the checkpoint in the run's folder, if there is one. Otherwise the run starts over.
        stop: ends the run when it is set, as SIGINT and SIGTERM do.

    Raises:
        Stopped: asked to stop. The run's ring is closed, and its folder holds the last complete checkpoint.
        Unreachable: Redis does not answer, at the start or for longer than `dataset.outage_s`.
        NoWorkers, GeneratorNotFound, InvalidOrder, OrderFailed, TakeTimeout: the images cannot be had.
        DataNotFound: the real images are not there.
        InvalidValue: settings that do not fit together or the checkpoint, or a loss that is not finite.
        IntegrityError: a damaged checkpoint, or a batch that is not what was ordered.
    """
    stop = stop or threading.Event()
    with on_signal(stop.set), reproducible(), reporting(config.run) as reporter:
        try:
            with locked(config.folder), _open(config, link, stop, reporter) as source:
                return _run(config, source, resume, stop, reporter)
        except Stopped:
            saved = config.folder / CHECKPOINT
            goes_on = resume and saved.exists()
            reporter.say(f"stopped; the same command {f'goes on from {saved}' if goes_on else 'starts over'}")
            raise


def _run(config: TrainConfig, source: Source, resume: bool, stop: threading.Event, reporter: Reporter) -> Result:
    facts, smoothing, device = source.facts, source.smoothing, _device(config)
    judge = Judge.load(config.evaluate, facts, device)
    provenance = facts.provenance.model_copy(update={"judged_on": judge.name})
    reporter.say(provenance.statement)
    model = make_classifier(config, facts.image_shape, len(facts.class_names), device)
    optimiser = make_optimiser(model, config.optimiser)

    saved = Checkpoint(config, facts.origins, model, optimiser)
    if not resume:
        saved.discard()
    state = saved.load(device)
    if state:
        reporter.say(f"going on from {saved.path}, after epoch {state.epoch} of {config.epochs}")
    if smoothing:  # before the first wait: what is minted may be aimed at it
        smoothing.publish(model, epoch=state.epoch if state else 0, step=state.step if state else 0)
    if state is None:
        first = source.first(partial(reporter.advance, "first dataset"))
        state = RunState(epoch=0, step=0, history=(), resident=ResidentDataset.of(first, device))
        saved.save(state)

    resident, history = state.resident, list(state.history)
    evaluation = None

    def attend() -> None:
        check(stop)
        if smoothing:
            smoothing.poll()

    def between(step: int, steps: int) -> None:
        attend()
        reporter.advance(f"epoch {len(history) + 1}/{config.epochs}", step, steps)

    with Events(config.folder, history) as events:
        for epoch in range(state.epoch, config.epochs):
            done = epoch + 1
            last = done == config.epochs
            renewing = None if last else smoothing

            if renewing and renewing.staleness == 1:
                renewing.order(birth=done, version=epoch)
            learned = learn(model, optimiser, resident, config, epoch, between)
            if smoothing:
                smoothing.publish(model, epoch=done, step=learned.step)
            if renewing and renewing.staleness == 0:
                renewing.order(birth=done, version=done)

            started = time.monotonic()
            judged = last or done % config.evaluate.every == 0
            evaluation = judge.evaluate(model, config.normalisation, attend) if judged else None
            evaluate_s = time.monotonic() - started

            came: dict[str, Any] = {}
            if renewing:
                fresh = renewing.collect(done, partial(reporter.advance, f"images for epoch {done + 1}"))
                rng = numpy_rng(config.seed, "victims", done)
                resident.replace(fresh.images, birth=done, victims=renewing.victims, rng=rng)
                came = fresh.numbers | {"r": len(fresh.images) / len(resident)}

            record = EpochRecord(
                epoch=done,
                accuracy=evaluation.accuracy if evaluation else None,
                evaluate_s=evaluate_s,
                **asdict(learned),
                **came,
            )
            history.append(record)
            if last or done % config.checkpoint_every == 0:
                saved.save(RunState(epoch=done, step=learned.step, history=tuple(history), resident=resident))
            events.record(record)
            reporter.say(record.line)

    evaluation = evaluation or judge.evaluate(model, config.normalisation)  # resumed after the last epoch
    write_results(config, facts.class_names, history, evaluation, provenance, resident)
    return Result(config.folder, model.eval(), resident, tuple(history), evaluation, provenance)


def _open(config: TrainConfig, link: Link | None, stop: threading.Event, reporter: Reporter) -> Source:
    """Where the config's images come from."""
    if isinstance(config.dataset, Real):
        return RealSource(config)
    if link is None:
        raise InvalidValue("a dataset of kind 'minted' comes from the service: give a link to its Redis")
    return MintedSource(config, link, stop=stop, say=reporter.say)


def _device(config: TrainConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InvalidValue("device 'cuda' is not there: torch sees no GPU; use 'cpu' or 'auto'", field="device")
    return torch.device(config.device)
