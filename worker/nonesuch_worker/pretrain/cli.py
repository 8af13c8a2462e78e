"""`nonesuch pretrain`: train a generator of the embedded family."""

from pathlib import Path
from typing import Annotated

import typer

RANKINGS, RANKING = "nonesuch.rankings", "exports"
"""The entry point that ranks exports: `rank(exports: Path) -> Path` returns the folder of the best."""


def pretrain(
    config: Annotated[Path | None, typer.Argument(help="TOML file; without one, the shipped recipe.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, grids and exports.")] = Path("runs/pretrain"),
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the config's.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder, if any.")] = True,
    data: Annotated[Path | None, typer.Option(help="Folder with the four files of Fashion-MNIST.")] = None,
    rank: Annotated[
        bool | None,
        typer.Option("--rank/--no-rank", help="Rank the exports at the end. By default, if a ranking is installed."),
    ] = None,
) -> None:
    """Pretrain a generator on real images: Fashion-MNIST's, or those that the config names.

    Uses their labels unless the config says `conditional = false`. For several GPUs:
    torchrun --nproc-per-node=N -m nonesuch pretrain CONFIG.toml

    On a CPU, say OMP_NUM_THREADS before torchrun: else it gives each process one thread.
    """
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch import plugins
    from nonesuch.host.stopping import Stopped
    from nonesuch_worker.pretrain.checkpoint import CHECKPOINT
    from nonesuch_worker.pretrain.config import PretrainConfig
    from nonesuch_worker.pretrain.distributed import leads
    from nonesuch_worker.pretrain.loop import pretrain as run

    recipe = PretrainConfig() if config is None else PretrainConfig.from_toml(config)
    if iterations is not None:
        recipe = recipe.model_copy(update={"iterations": iterations})
    if rank is None:
        rank = RANKING in plugins.names(RANKINGS)
    ranking = plugins.plugin(RANKINGS, RANKING) if rank else None  # a missing one is missed before the training
    result = run(recipe, out, resume=resume, data_folder=data)
    if result.name == CHECKPOINT:  # another rank was told to stop: this one is no more complete than that
        raise Stopped
    if not leads():
        return
    typer.echo(result)
    if ranking is not None:
        typer.echo(f"best: {ranking(result.parent)}")
