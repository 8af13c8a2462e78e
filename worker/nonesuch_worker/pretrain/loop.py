"""Pretraining the embedded generator: one loop, read from top to bottom.

    images ──► discriminator step ──► generator step ──► EMA ──┬─► checkpoint   every checkpoint_every
      ▲                                                   │    ├─► grid         every grid_every
      └───────────────────────────────────────────────────┘    └─► export       every export_every

It waits for nothing. SIGINT or SIGTERM ends it after the iteration in hand, with a checkpoint.
"""

import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue
from nonesuch.process import on_signal
from nonesuch.realdata import RealImages, load_fashion_mnist
from nonesuch_worker.generators.compact import CompactGenerator
from nonesuch_worker.generators.compact_folder import CARD
from nonesuch_worker.pretrain.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.discriminator import Discriminator
from nonesuch_worker.pretrain.ema import Ema, recompute_statistics
from nonesuch_worker.pretrain.export import export_generator
from nonesuch_worker.pretrain.grids import save_grid
from nonesuch_worker.pretrain.losses import discriminator_hinge, generator_hinge
from nonesuch_worker.pretrain.metrics import spread_ratio
from nonesuch_worker.pretrain.progress import reporting
from nonesuch_worker.pretrain.randomness import EpochOrder, Stream, draw_latents, generator_for

logger = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"


def pretrain(config: PretrainConfig, out_dir: Path, resume: bool = True, data_folder: Path | None = None) -> Path:
    """Pretrain a generator on the training split of the config's data; see `train` for what comes back.

    Raises:
        DataNotFound: the real images are not there.
        InvalidValue: the checkpoint in `out_dir` belongs to another config, or the images do not fit this one.
        IntegrityError: images or checkpoint are damaged.
    """
    return train(config, load_fashion_mnist("train", data_folder), out_dir, resume=resume)


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
        out_dir: gets the checkpoint, `grids/` and `exports/`, the last two by iteration.
        resume: go on from the checkpoint in `out_dir` if there is one; else start over.
        should_stop: asked after each iteration, with the number done; true ends the run as a signal does.

    Returns:
        The folder of the final export; or, when the run was stopped before its end, the checkpoint.

    Raises:
        InvalidValue: the images do not fit the config, the checkpoint belongs to another one, or training diverged.
        IntegrityError: the checkpoint is damaged.
    """
    _check_fit(config, real)
    memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
    generator, discriminator = _networks(config, memory_format)
    ema = Ema(generator, config.ema)
    g_optimizer = torch.optim.Adam(generator.parameters(), config.generator_lr, config.betas)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, config.betas)
    state = TrainingState(
        networks={"generator": generator, "discriminator": discriminator, "ema": ema.average},
        optimizers={"generator_adam": g_optimizer, "discriminator_adam": d_optimizer},
    )
    checkpoint = out_dir / CHECKPOINT
    start = load_checkpoint(checkpoint, state, config=config) if resume and checkpoint.exists() else 0
    folder = out_dir / "exports" / str(start)
    if start >= config.iterations and not (folder / CARD).is_file():
        raise InvalidValue(
            f"checkpoint {checkpoint} has done {start} iterations, no fewer than the {config.iterations} asked for, "
            "and nothing was exported there: ask for more with --iterations, or use --no-resume to start over"
        )
    logger.info("pretraining on %s (%d images) from iteration %d", real.name, len(real), start)

    images = torch.from_numpy(real.images).permute(0, 3, 1, 2)  # (N, C, H, W) uint8
    labels = torch.from_numpy(real.labels).long()  # (N,)
    order = EpochOrder(len(real), config.batch, config.seed)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16")

    asked = threading.Event()
    with on_signal(asked.set), reporting(start, config.iterations, config.log_every) as reporter:
        for iteration in range(start, config.iterations):
            g_optimizer.param_groups[0]["lr"], d_optimizer.param_groups[0]["lr"] = config.learning_rates(iteration)
            rng = generator_for(config.seed, Stream.LATENTS, iteration)

            for step in range(config.n_dis):
                rows = order[iteration * config.n_dis + step]
                real_x = _to_float(images[rows], rng if config.flip else None).to(memory_format=memory_format)
                z, y = draw_latents(config.batch, config.generator.z_dim, config.generator.classes, rng)
                with autocast:
                    fake_x = generator(z, y)  # (B, C, H, W)
                    both_x = torch.cat((real_x, fake_x.detach().float()))  # (2B, C, H, W)
                    real_scores, fake_scores = discriminator(both_x, torch.cat((labels[rows], y))).chunk(2)
                d_loss = discriminator_hinge(real_scores, fake_scores)
                d_optimizer.zero_grad()
                torch.autograd.backward(d_loss)
                d_optimizer.step()

            # The generator answers for the images that the discriminator has just learned from: one forward pass less.
            discriminator.requires_grad_(False)
            with autocast:
                g_loss = generator_hinge(discriminator(fake_x, y))
            g_optimizer.zero_grad()
            torch.autograd.backward(g_loss)
            g_optimizer.step()
            discriminator.requires_grad_(True)

            ema.update(generator, iteration)
            done = iteration + 1
            losses = (g_loss.item(), d_loss.item())
            if not all(map(math.isfinite, losses)):
                raise InvalidValue(f"losses {losses} at iteration {done}: lower the learning rates, or use float32")
            reporter.report(done, *losses)

            last = done == config.iterations
            stop = asked.is_set() or should_stop(done)
            if last or done % config.grid_every == 0 or done % config.export_every == 0:
                recompute_statistics(
                    ema.average, batches=config.standing_batches, batch=config.standing_batch, seed=config.seed
                )
                save_grid(ema.average, out_dir / "grids" / f"{done:06d}.png", seed=config.seed)
            if last or done % config.export_every == 0:
                folder = out_dir / "exports" / str(done)
                metrics = {"spread_ratio": spread_ratio(ema.average, real, seed=config.seed)}
                export_generator(ema.average, folder, config=config, iterations=done, real=real, metrics=metrics)
                logger.info("exported %s, spread ratio %.3f", folder, metrics["spread_ratio"])
            if last or stop or done % config.checkpoint_every == 0:
                save_checkpoint(checkpoint, state, iteration=done, config=config)
            if stop and not last:
                logger.info("stopped after iteration %d; the same command goes on from there", done)
                return checkpoint
    return folder


def _networks(config: PretrainConfig, memory_format: torch.memory_format) -> tuple[CompactGenerator, Discriminator]:
    """Both networks as the seed starts them, in train mode."""
    with torch.random.fork_rng():
        torch.manual_seed(generator_for(config.seed, Stream.INIT).initial_seed())
        generator = CompactGenerator(config.generator)
        discriminator = Discriminator(
            config.discriminator, channels=config.generator.channels, classes=config.generator.classes
        )
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return generator.train(), discriminator.train()


def _to_float(x_NCHW: Tensor, flips: torch.Generator | None) -> Tensor:
    """uint8 to float32 in [-1, 1]; mirrors each image with probability 1/2 when given random numbers to do it with."""
    x_NCHW = x_NCHW.float().div_(127.5).sub_(1)
    if flips is None:
        return x_NCHW
    mirrored = torch.rand(len(x_NCHW), 1, 1, 1, generator=flips) < 0.5
    return torch.where(mirrored, x_NCHW.flip(3), x_NCHW)


def _check_fit(config: PretrainConfig, real: RealImages) -> None:
    wanted = (config.generator.image_size, config.generator.image_size, config.generator.channels)
    if real.images.shape[1:] != wanted:
        raise InvalidValue(f"{real.name} has images {real.images.shape[1:]}, but the generator makes {wanted}")
    if len(real.class_names) != config.generator.classes:
        raise InvalidValue(
            f"{real.name} has {len(real.class_names)} classes, but generator.classes is {config.generator.classes}"
        )
    if len(real) < config.batch:
        raise InvalidValue(f"{real.name} has {len(real)} images, fewer than one batch of {config.batch}")
