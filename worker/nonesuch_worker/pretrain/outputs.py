"""What a run leaves in its folder, and when.

checkpoint.safetensors      every `checkpoint_every` iterations and at the end: where the run goes on from
before-decay.safetensors    where the learning rates start to fall: where a longer run can go on from
grids/ITERATION.png         every `grid_every`
exports/ITERATION/          every `export_every` and at the end: a generator with its card
"""

import logging
from pathlib import Path

from nonesuch.realdata.fashion_mnist import RealImages
from nonesuch.realdata.fingerprint import Fingerprint
from nonesuch_worker.pretrain.checkpoint import BEFORE_DECAY, CHECKPOINT, save_checkpoint
from nonesuch_worker.pretrain.config import PretrainConfig
from nonesuch_worker.pretrain.ema import recompute_statistics
from nonesuch_worker.pretrain.export import export_generator
from nonesuch_worker.pretrain.grids import save_grid
from nonesuch_worker.pretrain.metrics import spread_ratio
from nonesuch_worker.pretrain.players import Players

logger = logging.getLogger(__name__)


class Outputs:
    """Writes a run's folder."""

    def __init__(self, folder: Path, config: PretrainConfig, real: RealImages, players: Players) -> None:
        self._folder, self._config, self._real, self._players = folder, config, real, players
        self.fingerprint = Fingerprint.taken(real)
        """The real images: what a checkpoint goes on with, and what cards say."""

    def export_folder(self, done: int) -> Path:
        """The folder of the export after `done` iterations, if there is one."""
        return self._folder / "exports" / str(done)

    def start_over(self) -> None:
        """Remove what an earlier run in this folder would have gone on from."""
        for name in (CHECKPOINT, BEFORE_DECAY):
            (self._folder / name).unlink(missing_ok=True)

    def keep(self, done: int, *, stopping: bool) -> None:
        """Write what is due after `done` iterations. The checkpoint comes last: what it is resumed from is whole."""
        config = self._config
        last = done == config.iterations
        export = last or done % config.export_every == 0
        if export or done % config.grid_every == 0:
            self._sample(done, export=export)
        if done == config.decay_start and not last:
            self._save(BEFORE_DECAY, done)
        if last or stopping or done % config.checkpoint_every == 0:
            self._save(CHECKPOINT, done)

    def _save(self, name: str, done: int) -> None:
        save_checkpoint(
            self._folder / name, self._players.state, iteration=done, config=self._config, real=self.fingerprint
        )

    def _sample(self, done: int, *, export: bool) -> None:
        config, average = self._config, self._players.ema.average
        recompute_statistics(average, batches=config.standing_batches, batch=config.standing_batch, seed=config.seed)
        save_grid(average, self._folder / "grids" / f"{done:06d}.png", seed=config.seed)
        if not export:
            return
        ratio = spread_ratio(average, self._real, seed=config.seed)
        metrics = {} if ratio.value is None else {"spread_ratio": ratio.value}
        alike = ", ".join(self._real.class_names[label] for label in ratio.alike)
        missing = {"spread_ratio": f"all real images are alike, or there is one, of {alike}"} if alike else {}
        folder = self.export_folder(done)
        export_generator(
            average,
            folder,
            config=config,
            iterations=done,
            real=self._real,
            fingerprint=self.fingerprint,
            metrics=metrics,
            missing=missing,
        )
        shown = "none" if ratio.value is None else f"{ratio.value:.3f}"
        logger.info("exported %s, spread ratio %s%s", folder, shown, f" (without {alike})" if alike else "")
