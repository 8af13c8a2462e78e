"""A training run: a classifier that learns from a resident dataset, part of which is replaced after every epoch.

    fill ─► ┌─► learn ─► publish ─► judge ─► collect r·N ─► replace ─► checkpoint ─┐
            └───────────────────────────── every epoch ────────────────────────────┘
    staleness 0: the r·N images are ordered after `publish`, aimed at that snapshot; the run waits while they are minted
                 (Besnier et al. 2019, Alg. 2, as printed)
    staleness 1: they are ordered before `learn`, aimed at the snapshot before; they are minted while the epoch learns

    loop      waits for: its images ──────────── unblocked by: the end of their order, the late policy, a stop
              between two steps it empties the ring without waiting, so that the workers go on
    signals   the first SIGINT or SIGTERM asks ─ every wait and every epoch ends by it, within a step or about a second

r = 0 is a fixed dataset, r = 1 continuous sampling. After the last epoch nothing is replaced. `fill` is one order, the
whole of Alg. 1 (`sources.collected`), or real images and an order (`sources.augmented`). With class quotas the
classifier's errors are looked at before images are ordered. At the end a copy of the classifier may have its batch norm
adapted.
"""

import threading
import time
from dataclasses import asdict
from functools import partial
from typing import Any

from nonesuch.errors import InvalidValue
from nonesuch.host.files import locked
from nonesuch.host.process import on_signal
from nonesuch.host.stopping import Stopped, check
from nonesuch.link import Link
from nonesuch.seeds import numpy_rng, reproducible
from nonesuch_trainer.bna.adapting import Adapter
from nonesuch_trainer.learning.checkpoint import CHECKPOINT, Checkpoint, RunState
from nonesuch_trainer.learning.epoch import choose_device, learn, make_classifier
from nonesuch_trainer.learning.judging import Judge
from nonesuch_trainer.learning.optim import make_optimiser
from nonesuch_trainer.learning.published import snapshot
from nonesuch_trainer.learning.records import EpochRecord
from nonesuch_trainer.reporting.events import Events
from nonesuch_trainer.reporting.progress import RunReporter, reporting
from nonesuch_trainer.reporting.results import Result, write_results
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Augmented, Collected, Real
from nonesuch_trainer.settings.identity import RunIdentity
from nonesuch_trainer.sources.augmented import AugmentedSource
from nonesuch_trainer.sources.class_quotas import ClassErrors
from nonesuch_trainer.sources.collected import COLLECTING, CollectedSource
from nonesuch_trainer.sources.minted import MintedSource
from nonesuch_trainer.sources.ordering import service_name
from nonesuch_trainer.sources.real import RealSource
from nonesuch_trainer.sources.source import Source

__all__ = ["Result", "train"]


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
        NotFound, SnapshotNotFound: the teacher is not there.
        InvalidValue: settings that do not fit together or the checkpoint, or a loss that is not finite.
        IntegrityError: a damaged checkpoint or classifier file, or a batch that is not what was ordered.
    """
    stop = stop or threading.Event()
    with on_signal(stop.set), reproducible(), reporting(config.run) as reporter:
        try:
            with locked(config.folder), _open(config, link, resume, stop, reporter) as source:
                return _run(config, source, resume, stop, reporter)
        except Stopped:
            saved = [config.folder / name for name in (CHECKPOINT, COLLECTING)]
            there = [str(path) for path in saved if resume and path.exists()]
            reporter.say(f"stopped; the same command {f'goes on from {there[0]}' if there else 'starts over'}")
            raise


def _run(config: TrainConfig, source: Source, resume: bool, stop: threading.Event, reporter: RunReporter) -> Result:
    facts, renewal = source.facts, source.renewal
    how = config.learning
    device = choose_device(config.device)
    judge = Judge.load(config.evaluate, facts, device)
    errors = ClassErrors(config.quotas, config.evaluate, facts, device) if config.quotas else None
    ledger = facts.ledger.plus(*([errors.use] if errors else [])).model_copy(update={"judged_on": judge.name})
    reporter.say(ledger.statement)
    model = make_classifier(how, facts.image_shape, len(facts.class_names), device)
    optimiser = make_optimiser(model, how.optimiser)
    adapter = Adapter(config.adapt, model, how.normalisation, facts, config.evaluate.folder) if config.adapt else None

    saved = Checkpoint(config.folder / CHECKPOINT, RunIdentity.of(config), facts.origins, model, optimiser, facts.real)
    if not resume:
        saved.discard()
    state = saved.load(device)
    if state:
        reporter.say(f"going on from {saved.path}, after epoch {state.epoch} of {config.epochs}")
    if renewal:  # before the first wait: what is minted may be aimed at it
        epoch, step = (state.epoch, state.step) if state else (0, 0)
        renewal.publish(snapshot(model, how, facts, ledger, epoch=epoch, step=step))
    if state is None:
        first = source.first(device, partial(reporter.advance, "first dataset"))
        state = RunState(epoch=0, step=0, history=(), resident=first.dataset, tally=first.tally)
        saved.save(state)

    resident, history, tally = state.resident, list(state.history), state.tally
    evaluation = None

    def attend() -> None:
        check(stop)
        if renewal:
            renewal.poll()

    def between(step: int, steps: int) -> None:
        attend()
        reporter.advance(f"epoch {len(history) + 1}/{config.epochs}", step, steps)

    # What quotas go by. Of a classifier that has learned nothing there is nothing to know.
    known = errors.of(model, how.normalisation, attend) if errors and state.epoch else None

    with Events(config.folder, history) as events:
        for epoch in range(state.epoch, config.epochs):
            done = epoch + 1
            last = done == config.epochs
            renewing = None if last else renewal

            if renewing and renewing.staleness == 1:
                renewing.order(birth=done, version=epoch, errors=known)
            learned = learn(model, optimiser, resident, how, epoch, between)
            if renewal:
                renewal.publish(snapshot(model, how, facts, ledger, epoch=done, step=learned.step))
            known = errors.of(model, how.normalisation, attend) if errors and renewing else None
            if renewing and renewing.staleness == 0:
                renewing.order(birth=done, version=done, errors=known)

            started = time.monotonic()
            judged = last or done % config.evaluate.every == 0
            evaluation = judge.evaluate(model, how.normalisation, attend) if judged else None
            evaluate_s = time.monotonic() - started

            came: dict[str, Any] = {}
            if renewing:
                fresh = renewing.collect(done, partial(reporter.advance, f"images for epoch {done + 1}"))
                rng = numpy_rng(how.seed, "victims", done)
                resident.replace(
                    fresh.came.images, birth=done, victims=renewing.victims, rng=rng, keep_balance=errors is None
                )
                tally += fresh.came.tally
                came = fresh.numbers | {"r": len(fresh.came.images) / resident.replaceable}
                if errors:
                    came["shares"] = resident.shares

            record = EpochRecord(
                epoch=done,
                accuracy=evaluation.accuracy if evaluation else None,
                evaluate_s=evaluate_s,
                **asdict(learned),
                **came,
            )
            history.append(record)
            if last or done % config.checkpoint_every == 0:
                saved.save(RunState(done, learned.step, tuple(history), resident, tally))
            events.record(record)
            reporter.say(record.line)

    evaluation = evaluation or judge.evaluate(model, how.normalisation)  # resumed after the last epoch
    adapted = adapter.run(model, judge, ledger, attend) if adapter else None
    result = Result(config.folder, model.eval(), resident, tuple(history), evaluation, ledger, tally, adapted)
    filed = snapshot(result.model, how, facts, ledger, epoch=len(history), step=history[-1].step)
    write_results(config.run, filed.header, result)
    return result


def _open(config: TrainConfig, link: Link | None, resume: bool, stop: threading.Event, reporter: RunReporter) -> Source:
    """The source of the config's images."""
    dataset, seed, name = config.dataset, config.seed, service_name(config.run, config.folder)
    if isinstance(dataset, Real):
        return RealSource(dataset, seed=seed)
    if link is None:
        raise InvalidValue(f"a dataset of kind {dataset.kind!r} comes from the service: give a link to its Redis")
    if isinstance(dataset, Augmented):
        return AugmentedSource(dataset, link, name=name, seed=seed, stop=stop, say=reporter.say)
    if isinstance(dataset, Collected):
        how, identity = config.learning, RunIdentity.of(config)
        return CollectedSource(
            dataset, link, how, identity, config.folder, name=name, resume=resume, stop=stop, reporter=reporter
        )
    return MintedSource(dataset, link, name=name, seed=seed, stop=stop, say=reporter.say)
