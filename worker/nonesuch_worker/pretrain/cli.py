"""`nonesuch pretrain`: train the embedded generator."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    config: Annotated[Path | None, typer.Argument(help="TOML file; without one, the shipped recipe.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, grids and exports.")] = Path("runs/pretrain"),
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the config's.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder, if any.")] = True,
    data: Annotated[Path | None, typer.Option(help="Folder with the four files of Fashion-MNIST.")] = None,
) -> None:
    """Pretrain the embedded generator on Fashion-MNIST's training images (uses real images, with their labels)."""
    from nonesuch.process import ensure_cpu_settings
    from nonesuch_worker.pretrain.config import PretrainConfig
    from nonesuch_worker.pretrain.loop import pretrain as run

    ensure_cpu_settings()
    recipe = PretrainConfig() if config is None else PretrainConfig.from_toml(config)
    if iterations is not None:
        recipe = recipe.model_copy(update={"iterations": iterations})
    typer.echo(run(recipe, out, resume=resume, data_folder=data))
