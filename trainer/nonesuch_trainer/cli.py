"""`nonesuch train`: train a classifier as a config says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nonesuch.host.stopping import Terminated


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file, such as trainer/configs/smoothing.toml.")],
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from the run's checkpoint, or start over without it.")
    ] = True,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: dataset.size=2000, for example.")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="Where the service is; NONESUCH_REDIS_URL if left out.")] = None,
    stopped_exit_code: Annotated[
        int,
        typer.Option(
            min=0, max=255, envvar="NONESUCH_STOPPED_EXIT_CODE", help="When SIGTERM stops the run before its end."
        ),
    ] = 143,  # a shell's for SIGTERM: whoever waits for a classifier must not take the run for finished
) -> None:
    """Train a classifier on images that do not exist, and judge it on real ones."""
    try:
        _train(config, resume, set_ or (), redis)
    except Terminated:
        raise typer.Exit(stopped_exit_code) from None


def _train(config: Path, resume: bool, changes: Sequence[str], redis: str | None) -> None:
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch.config import RedisSettings, validated
    from nonesuch.link import Link
    from nonesuch_trainer.loop import train as run
    from nonesuch_trainer.settings.config import load

    wanted = load(config, changes)
    settings = RedisSettings.from_env()
    if redis is not None:
        settings = validated(RedisSettings, {**settings.model_dump(), "url": redis}, "--redis")
    with Link(settings) as link:
        result = run(wanted, link, resume=resume)
    adapted = result.adapted
    once_more = f", {100 * adapted.evaluation.accuracy:.2f} % with batch norm adapted" if adapted else ""
    typer.echo(
        f"{100 * result.evaluation.accuracy:.2f} %{once_more} on {result.ledger.judged_on}; more in {result.folder}"
    )
