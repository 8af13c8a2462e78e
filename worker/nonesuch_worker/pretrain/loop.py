"""Pretraining the embedded generator: one loop, read from top to bottom.

    images ──► discriminator step ──► generator step ──► EMA ──┬─► checkpoint   every checkpoint_every
      ▲          (n_dis times)                            │    ├─► grid         every grid_every
      └───────────────────────────────────────────────────┘    └─► export       every export_every

It waits for nothing but, under torchrun, the other ranks (see `distributed`). SIGINT or SIGTERM, at any of them, ends
all after the iteration in hand, with a checkpoint, and raises `Stopped`.
"""

import logging
import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from nonesuch.errors import InvalidValue
from nonesuch.host.files import locked
from nonesuch.host.process import on_signal
from nonesuch.host.stopping import Stopped
from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.labelled import read_labelled
from nonesuch_worker.generators.compact.folder import CARD
from nonesuch_worker.pretrain.checkpoint import CHECKPOINT, resume_from
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.distributed import joined
from nonesuch_worker.pretrain.feed import Feed, check_fit, unlabelled
from nonesuch_worker.pretrain.outputs import Outputs
from nonesuch_worker.pretrain.players import Players
from nonesuch_worker.pretrain.progress import reporting
from nonesuch_worker.pretrain.steps import Steps

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, out_dir: Path, resume: bool = True, data_folder: Path | None = None) -> Path:
    """Pretrain a generator on the training split of the config's data; see `train` for what comes back.

    Raises:
        DataNotFound: the real images are not there.
        InvalidValue: the checkpoint in `out_dir` belongs to another config or to other images, or the images do not fit
            this config.
        IntegrityError: images or checkpoint are damaged.
    """
    side, channels = config.generator.image_size, config.generator.channels
    real = read_labelled(
        config.data,
        "train",
        image_shape=(side, side, channels),
        validation_per_class=config.validation_per_class,
        folder=data_folder,
    )
    return train(config, real, out_dir, resume=resume)


def train(
    config: PretrainConfig,
    real: RealImages,
    out_dir: Path,
    *,
    resume: bool = True,
    should_stop: Callable[[int], bool] = lambda done: False,
) -> Path:
    """Pretrain a generator on `real`.

    Args:
        out_dir: gets what `outputs` names.
        resume: go on from the checkpoint in `out_dir` if there is one; else start over.
        should_stop: asked after each iteration, with the number done; true ends the run with a checkpoint.

    Returns:
        The folder of the final export; or, when `should_stop` or another rank has ended the run, the checkpoint.

    Raises:
        Stopped: a signal has ended the run before its end, with a checkpoint; `Terminated` if it was SIGTERM.
        InvalidValue: the images do not fit the config, the checkpoint belongs to another one or to other images,
            another run is writing to `out_dir`, the batch cannot be split over torchrun's processes, or training
            diverged.
        IntegrityError: the checkpoint is damaged.
    """
    real = real if config.conditional else unlabelled(real)
    check_fit(config, real)
    asked = threading.Event()
    with joined(config.device) as world, on_signal(asked.set), ExitStack() as kept:
        feed = Feed(config, real, world)  # refuses a batch that cannot be split, before the folder is made
        if world.leads:
            kept.enter_context(locked(out_dir))  # from another run
        players = Players(config, world)
        steps = Steps(config, players, world)
        outputs = Outputs(out_dir, config, real, players)
        world.wait()  # rank 0 may still be writing what an earlier call left
        start = resume_from(out_dir, players.state, config=config, real=outputs.fingerprint) if resume else 0
        if start >= config.iterations and not (outputs.export_folder(start) / CARD).is_file():
            raise InvalidValue(
                f"checkpoint {out_dir / CHECKPOINT} has done {start} iterations, no fewer than the "
                f"{config.iterations} asked for, and nothing was exported there: ask for more with --iterations, or "
                "use --no-resume to start over"
            )
        if start == 0 and world.leads:
            outputs.start_over()
        logger.info(
            "pretraining on %s (%d images) from iteration %d, on %s, %d process(es)",
            real.name, len(real), start, world.device.type, world.size,
        )  # fmt: skip

        with reporting(start, config.iterations, config.log_every, watched=world.leads) as reporter:
            for iteration in range(start, config.iterations):
                players.set_rates(*config.learning_rates(iteration))
                for batch in feed(iteration):
                    fake_x, d_loss = steps.discriminator(batch)
                g_loss = steps.generator(fake_x, batch)
                players.ema.update(players.generator, iteration)

                done = iteration + 1
                losses, stop = world.agree((g_loss, d_loss), asked.is_set() or should_stop(done))
                if not all(map(math.isfinite, losses)):
                    raise InvalidValue(f"losses {losses} at iteration {done}: lower the learning rates, or use float32")
                reporter.report(done, *losses)
                if world.leads:
                    outputs.keep(done, stopping=stop)
                if stop and done < config.iterations:
                    logger.info("stopped after iteration %d; the same command goes on from there", done)
                    if asked.is_set():
                        raise Stopped
                    return out_dir / CHECKPOINT
    return outputs.export_folder(max(start, config.iterations))
