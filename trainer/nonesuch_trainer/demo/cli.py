"""`nonesuch demo`: what can be learned from images that do not exist."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nonesuch.host.terminal import terminal


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo writes.")] = Path("runs/demo"),
    size: Annotated[int, typer.Option(min=10, help="Images that an epoch learns from.")] = 2000,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs of each classifier.")] = 22,
    seed: Annotated[int, typer.Option(min=0, help="Of the images, the weights and the order of training.")] = 0,
    generator: Annotated[str, typer.Option(help="A packaged generator.")] = "fashion-mnist",
    data: Annotated[Path | None, typer.Option(help="Folder of the real Fashion-MNIST files.")] = None,
    split: Annotated[
        str, typer.Option(help="Real images that judge: test, or validation to choose settings.")
    ] = "test",
) -> None:
    """Train on images that do not exist, judge on real ones: fixed, smoothed and mined datasets, and a reference."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    from nonesuch.config import validated
    from nonesuch_trainer.demo.arms import DemoPlan
    from nonesuch_trainer.demo.run import run_demo

    console = terminal()
    given = {"out": out, "size": size, "epochs": epochs, "seed": seed, "generator": generator, "data": data}
    plan = validated(DemoPlan, {**given, "split": split}, "the options")
    summary: dict[str, Any] = run_demo(plan, console.print)

    console.print(_table(summary, f"accuracy on {summary['test_images']:,} real {plan.split} images"))
    console.print(f"{epochs} epochs of {size} images each, {summary['seconds']} s in all. Written:")
    for name in ("summary.json", "minted.png", "curves.png"):
        console.print(f"  {out / name}")


def _table(summary: dict[str, Any], title: str) -> Table:
    from nonesuch_trainer.demo.arms import MINTED, TITLES

    accuracy = {(row["dataset"], row["bna"]): f"{row['accuracy']} %" for row in summary["rows"]}
    table = Table(title=title, title_justify="left", caption="BNA: batch norm adapted to real images without labels")
    for column in ("learned from", "different images", "accuracy", "with BNA"):
        table.add_column(column, justify="left" if column == "learned from" else "right")
    for arm in MINTED:
        seen = f"{summary['images_seen'][arm]:,}"
        table.add_row(TITLES[arm], seen, accuracy[arm, False], accuracy[arm, True])
    table.add_row(TITLES["real"], f"{summary['images_seen']['real']:,}", f"{summary['real']} %", "")
    return table
