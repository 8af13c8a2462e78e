"""`nonesuch calibrate`: how far to mine."""

from pathlib import Path
from typing import Annotated

import typer

from nonesuch.host.terminal import terminal


def calibrate(
    generator: Annotated[str, typer.Option(help="A name (`nonesuch generators list`), a folder, or family:argument.")],
    classifier: Annotated[Path, typer.Option(help="The classifier to mine: its file, or the folder of a run.")],
    teacher: Annotated[Path, typer.Option(help="An independent classifier that says what images show.")],
    target: Annotated[float, typer.Option(help="The mean top probability to come down to.")] = 0.6,
    floor: Annotated[float, typer.Option(help="The fraction of images that the teacher has to agree with.")] = 0.9,
    images: Annotated[int, typer.Option(min=1, help="How many to mine for each eta.")] = 512,
    eta: Annotated[list[float] | None, typer.Option(help="To try; 0.02, 0.05 and 0.1 if left out.")] = None,
    steps: Annotated[int, typer.Option(help="The most to try.")] = 10,
    param: Annotated[list[str] | None, typer.Option(help="Another parameter of hsm, as name=value.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the curves and the choice.")] = None,
) -> None:
    """Find the step size and the number of steps of hsm that make images hard while a teacher still agrees."""
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()

    from nonesuch.config import validated
    from nonesuch.host.files import write_atomically
    from nonesuch.host.progress import progress
    from nonesuch.orders import parse_params
    from nonesuch_worker.calibrate.calibration import Calibration, mining_params
    from nonesuch_worker.calibrate.choice import Goal, choose
    from nonesuch_worker.calibrate.report import document, pasteable, table

    goal = validated(Goal, {"target": target, "floor": floor}, "the goal")
    others = parse_params(param or [])
    params = mining_params(eta or (0.02, 0.05, 0.1), steps, others)
    calibration = Calibration(generator, classifier, teacher, params, goal)
    with progress(terminal(stderr=True), "mined", images * len(params)) as advance:
        points = calibration.run(images=images, seed=seed, advance=advance)
    choice = choose(points, goal)
    console = terminal()
    console.print(table(points))
    console.print(choice.reason)
    if choice.point is not None:
        console.print(pasteable(choice.point, others))
    if out is not None:
        facts = {**calibration.facts, **goal.model_dump(), "images": images, "seed": seed}
        write_atomically(out, document(points, choice, facts).encode())
