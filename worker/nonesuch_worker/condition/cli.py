"""`nonesuch condition`: give an unconditional generator classes."""

from pathlib import Path
from typing import Annotated

import typer

from nonesuch.host.terminal import terminal


def condition(
    base: Annotated[
        str, typer.Argument(help="An unconditional generator: a packaged name, a folder, family:argument.")
    ],
    classifier: Annotated[
        Path, typer.Argument(help="The classifier of the classes: its file, or the folder of a run.")
    ],
    name: Annotated[str, typer.Option(help="The id of the new generator.")],
    out: Annotated[Path, typer.Option(help="The folder to make; with --curve, one with a folder for each weight.")],
    config: Annotated[Path | None, typer.Option(help="TOML file; options go before what it says.")] = None,
    regulariser: Annotated[str | None, typer.Option(help="none, entropy or distance; entropy if left out.")] = None,
    weight: Annotated[float | None, typer.Option(help="Of the regulariser; 0.1 if left out.")] = None,
    curve: Annotated[str | None, typer.Option(help="Weights to try instead, such as 0,0.01,0.1,1.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Of the training; 1000 if left out.")] = None,
    judge: Annotated[Path | None, typer.Option(help="An independent classifier of the same classes.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Of each class, for the report.")] = 500,
    seed: Annotated[int | None, typer.Option(help="Of everything random; 0 if left out.")] = None,
) -> None:
    """Train an input network that makes an unconditional generator and a classifier into a conditional generator."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()

    from nonesuch.errors import InvalidValue
    from nonesuch.host.progress import progress
    from nonesuch_worker.condition.conditioning import CURVE, Conditioning, curve_document, plans
    from nonesuch_worker.condition.folder import base_folder, new_folder
    from nonesuch_worker.condition.tables import curve_table, diversity_table, scores_table
    from nonesuch_worker.generators.conditioned.config import ConditionConfig

    if curve is not None and weight is not None:
        raise InvalidValue(f"--weight {weight:g} and --curve {curve} exclude each other: give one of them")
    given = {"regulariser": regulariser, "weight": weight, "iterations": iterations, "seed": seed}
    recipe = ConditionConfig.read(config, **given)
    planned = plans(name, recipe, None if curve is None else _weights(curve))

    console = terminal()
    said = terminal(stderr=True)
    with new_folder(out, base_folder(base)) as folder:
        conditioning = Conditioning(base, classifier, judge, recipe.resample)
        total = len(conditioning.names) * images
        made = []
        for plan in planned:
            with progress(said, f"{plan.name}: trained", plan.config.iterations) as advance:
                network = conditioning.train(plan.config, advance)
            with progress(said, f"{plan.name}: measured", total) as advance:
                made.append(conditioning.finish(network, plan, images=images, advance=advance))
            conditioning.write(made[-1], folder if curve is None else folder / plan.name)
        if curve is not None:
            (folder / CURVE).write_text(curve_document(made), encoding="utf-8")
    if curve is not None:
        console.print(curve_table([(m.card.recipe, m.report) for m in made]))
    else:
        report = made[0].report
        console.print(scores_table(report.classifier, "classifier that it was trained with"))
        if report.judge is not None:
            console.print(scores_table(report.judge, "independent judge"))
        console.print(diversity_table(report))
    console.print(str(out))


def _weights(text: str) -> list[float]:
    """Numbers between commas, each once. Raises `InvalidValue`."""
    from nonesuch.errors import InvalidValue

    try:
        return list(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise InvalidValue(f"curve {text!r} is not a list of weights: write 0,0.01,0.1,1", field="curve") from None
