"""Compare the methods: what a classifier learns from minted images that were chosen in different ways.

    nonesuch train trainer/configs/teacher.toml
    python -m nonesuch_trainer.experiments.methods --seeds 3 --out docs/results/methods.json

`select` is the control of `hsm` at equal compute: with S steps of mining it chooses among 2S + 1 images, which takes as
many passes of the generator. Nothing was tuned on the test images.
"""

import argparse
from pathlib import Path

from nonesuch_trainer.experiments.comparison import Comparison, compare
from nonesuch_trainer.settings.datasets import Minted, Portion, Real, TeacherSource

STEPS, ETA = 5, 0.05
RANDOM = Portion(strategy="random")
MINED = Portion(strategy="hsm", params={"steps": STEPS, "eta": ETA})
SELECTED = Portion(strategy="select", params={"k": 2 * STEPS + 1})
FILTERED = Portion(strategy="filtered", params={"threshold": 0.5})


def arms(size: int, teacher: Path | None) -> dict[str, Minted | Real]:
    """Every arm's dataset. Without a teacher's file nothing is filtered."""
    found: dict[str, Minted | Real] = {"fixed": Minted(size=size, replacement=0.0, first=RANDOM, fresh=(RANDOM,))}
    for name, fresh in (
        ("smoothing", (RANDOM,)),
        ("smoothing+select", (SELECTED, RANDOM)),
        ("smoothing+hsm", (MINED, RANDOM)),
    ):
        found[name] = Minted(size=size, replacement=0.5, first=RANDOM, fresh=fresh)
    if teacher is not None:
        found["smoothing+filtered"] = Minted(
            size=size, replacement=0.5, first=FILTERED, fresh=(FILTERED,), teacher=TeacherSource(classifier=teacher)
        )
    return found | {"real": Real(kind="real", size=size)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=2000, help="N, images an epoch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--teacher", type=Path, default=None, help="classifier file; without it nothing is filtered")
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    given = parser.parse_args()
    compared = [("smoothing", "fixed"), ("smoothing+hsm", "smoothing"), ("smoothing+hsm", "smoothing+select")]
    if given.teacher is not None:
        compared.append(("smoothing+filtered", "smoothing"))
    comparison = Comparison(
        name="methods",
        arms=arms(given.size, given.teacher),
        compared=compared,
        seeds=given.seeds,
        epochs=given.epochs,
        split=given.split,
        runs=given.runs,
        generators=("fashion-mnist",),
        facts={"size": given.size, "hsm": {"steps": STEPS, "eta": ETA}},
    )
    compare(comparison, given.out)


if __name__ == "__main__":
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    main()
