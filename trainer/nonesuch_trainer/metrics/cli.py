"""`nonesuch evaluate`: what a generator is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    from nonesuch_trainer.metrics.evaluation import Findings


def evaluate(
    generator: Annotated[
        list[str], typer.Option(help="A name, a folder, or family:argument. Several are mixed in equal shares.")
    ],
    sigma: Annotated[float, typer.Option(help="Of the latents; above 1 is expanded sampling.")] = 1.0,
    truncation: Annotated[float | None, typer.Option(help="Of the latents, in the place of sigma.")] = None,
    size: Annotated[int, typer.Option(help="Images to learn from.")] = 10_000,
    epochs: Annotated[int, typer.Option(help="To learn for; 0 measures the images only.")] = 20,
    seeds: Annotated[int, typer.Option(help="How often to learn, each time from other images.")] = 1,
    seed: Annotated[int, typer.Option(help="The first of the seeds.")] = 0,
    split: Annotated[str, typer.Option(help="Real images that judge: validation to choose, test to report.")] = (
        "validation"
    ),
    features: Annotated[Path | None, typer.Option(help="A classifier file to see through; else the shipped one.")] = (
        None
    ),
    real: Annotated[
        str, typer.Option(help="Real images with labels: fashion-mnist, class folders, or an IDX, Parquet or NPZ file.")
    ] = "fashion-mnist",
    data: Annotated[Path | None, typer.Option(help="Folder of the Fashion-MNIST files.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; else runs/evaluate/<generator>.")] = None,
) -> None:
    """Measure a generator: what can be learned from its images, and how far they are from real ones."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch.catalog import read_catalog
    from nonesuch.config import validated
    from nonesuch.link import Link
    from nonesuch.local.service import LocalService
    from nonesuch_trainer.metrics.evaluation import evaluate as run
    from nonesuch_trainer.metrics.plan import EvaluationPlan
    from nonesuch_trainer.metrics.report import write_report

    bar = terminal(stderr=True)
    given = {
        "sigma": sigma, "truncation": truncation, "size": size, "epochs": epochs, "seeds": seeds, "seed": seed,
        "split": split, "features": features, "real": real, "data": data,
    }  # fmt: skip
    validated(EvaluationPlan, {**given, "generators": ("any",)}, "the options")
    logs = Path("runs/evaluate/logs")
    with (
        LocalService(logs=logs, port=None, generators=tuple(generator), private=True, on_step=bar.print) as service,
        Link(service.redis) as link,
    ):
        ids = tuple(link.run(read_catalog(link.keys)).generators)
        plan = validated(EvaluationPlan, {**given, "generators": ids}, "the options")
        findings = run(plan, link, say=bar.print)
    files = write_report(findings, out or Path("runs/evaluate") / "+".join(ids))
    _print(findings, terminal())
    typer.echo(f"written: {files[0]}, and {len(files) - 1} pictures beside it")


def _print(findings: "Findings", console: Console) -> None:
    from nonesuch_trainer.metrics.report import class_rows, measure_rows, missing_lines, real_ones

    plan = findings.plan
    table = Table(
        title=f"{' + '.join(plan.generators)}: {findings.generated.images:,} images against {findings.judged_on}",
        title_justify="left",
        caption="floor: as many other real images, measured in the same way",
    )
    for column in ("measure", "generated", "floor", "better"):
        table.add_column(column, justify="left" if column in ("measure", "better") else "right")
    for row in measure_rows(findings):
        table.add_row(*row)
    console.print(table)
    table = Table(title="by class: generated | real", title_justify="left")
    for column in ("class", "learned from it", "from real", "agreement", "real", "MS-SSIM", "real"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for by_class in class_rows(findings):
        table.add_row(*by_class)
    console.print(table)
    for line in missing_lines(findings):
        console.print(line)
    for twins in findings.twins:
        console.print(
            f"seed {twins.seed}: {100 * twins.minted.accuracy:.2f} % learned from {plan.size:,} generated images, "
            f"{100 * twins.real.accuracy:.2f} % from {real_ones(twins, plan.size)}: "
            f"a gap of {100 * twins.gap:.2f} points"
        )
    console.print(findings.facts.ledger.statement)
