"""Compare what can be learned from generators: latents, blocks, how many there are, and the best of all together.

    nonesuch train trainer/configs/teacher.toml
    python -m nonesuch_trainer.experiments.generators sigma   --out docs/results/generators-sigma.json
    python -m nonesuch_trainer.experiments.generators choices --out docs/results/generators-choices.json
    python -m nonesuch_trainer.experiments.generators several --out docs/results/generators-several.json
    python -m nonesuch_trainer.experiments.generators gap     --out docs/results/generators-gap.json

`sigma`    σ and truncation of the latents, one generator, fixed datasets (Ravuri & Vinyals 2019, figure 5)
`choices`  what the best combination is made of: judged on the validation images, where everything is chosen
`several`  blocks that add or concatenate; one, two, three generators (Pham et al. 2019, table I)
`gap`      how far one generator, and the best combination, stay behind as many real images; judged on the test images
"""

import argparse
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from nonesuch.realdata.fashion_mnist import Split
from nonesuch_trainer.experiments.comparison import Comparison, compare
from nonesuch_trainer.settings.datasets import Minted, Portion, Real, TeacherSource

FAMILY = ("fashion-mnist", "fashion-mnist-s1", "fashion-mnist-concat")
BEST_SIGMA, BEST_THRESHOLD = 1.25, 0.5

Arms = dict[str, Minted | Real]
Pairs = list[tuple[str, str]]


def fixed(size: int, *generators: str, **params: JsonValue) -> Minted:
    """A fixed dataset, drawn at random from generators in equal shares."""
    recipe = Portion(params=params)
    return Minted(generators=generators, size=size, replacement=0.0, first=recipe, fresh=(recipe,))


def smoothing(
    size: int, *generators: str, r: float = 0.5, teacher: Path | None = None, soft: bool = False, **params: JsonValue
) -> Minted:
    """Dataset smoothing; filtered by a teacher if there is one."""
    recipe = Portion(strategy=None if teacher is None else "filtered", params=params)
    return Minted(
        generators=generators,
        size=size,
        replacement=r,
        first=recipe,
        fresh=(recipe,),
        staleness=1,  # nothing is aimed at the classifier, so images may as well be minted while it learns
        labels="soft" if soft else "hard",
        teacher=None if teacher is None else TeacherSource(classifier=teacher),
    )


def sigma_arms(size: int, teacher: Path) -> tuple[Arms, Pairs]:
    """The arms of `sigma`: expanded and truncated latents."""
    one = FAMILY[0]
    arms: Arms = {f"truncation={t}": fixed(size, one, truncation=t) for t in (0.5, 0.8)}
    arms |= {f"sigma={s}": fixed(size, one, sigma=s) for s in (1.0, 1.25, 1.5, 2.0)}
    return arms, [(arm, "sigma=1.0") for arm in arms if arm != "sigma=1.0"]


def choice_arms(size: int, teacher: Path) -> tuple[Arms, Pairs]:
    """The arms of `choices`: one change at a time."""
    one, arms = FAMILY[0], Arms()
    arms["smoothing"] = smoothing(size, one)
    arms["filtered"] = smoothing(size, one, teacher=teacher, threshold=0.5)
    arms["filtered+expanded"] = smoothing(size, one, teacher=teacher, threshold=0.5, sigma=1.25)
    arms["three+filtered"] = smoothing(size, *FAMILY, teacher=teacher, threshold=0.5)
    arms["three+filtered+expanded"] = smoothing(size, *FAMILY, teacher=teacher, threshold=0.5, sigma=1.25)
    arms["three+filtered+soft"] = smoothing(size, *FAMILY, teacher=teacher, threshold=0.5, soft=True)
    arms["real"] = Real(kind="real", size=size)
    return arms, [(arm, "smoothing") for arm in arms if arm != "smoothing"]


def several_arms(size: int, teacher: Path) -> tuple[Arms, Pairs]:
    """The arms of `several`: fixed datasets from one, two and three generators."""
    add, other, concat = FAMILY
    arms: Arms = {
        "add": fixed(size, add),
        "add, other seed": fixed(size, other),
        "concat": fixed(size, concat),
        "two": fixed(size, add, other),
        "three": fixed(size, *FAMILY),
    }
    return arms, [(arm, "add") for arm in arms if arm != "add"] + [("three", "two")]


def gap_arms(size: int, teacher: Path) -> tuple[Arms, Pairs]:
    """The arms of `gap`: one generator with smoothing alone, the best of `choices`, and as many real images."""
    best: dict[str, Any] = {"teacher": teacher, "threshold": BEST_THRESHOLD, "sigma": BEST_SIGMA}
    arms: Arms = {
        "one generator": smoothing(size, FAMILY[0]),
        "best": smoothing(size, *FAMILY, **best),
        "real": Real(kind="real", size=size),
    }
    return arms, [("real", arm) for arm in arms if arm != "real"] + [("best", "one generator")]


SIZES = {"sigma": (5_000, 12), "choices": (5_000, 12), "several": (4_000, 10), "gap": (10_000, 15)}
"""The size N of the datasets and the epochs, by table."""
TABLES = {"sigma": sigma_arms, "choices": choice_arms, "several": several_arms, "gap": gap_arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tuple(TABLES))
    parser.add_argument("--seeds", type=int, default=None, help="3 for `several` and `gap`, else 1")
    parser.add_argument("--size", type=int, default=None, help="N, images an epoch; else as in docs/generators.md")
    parser.add_argument("--epochs", type=int, default=None, help="as in docs/generators.md if left out")
    parser.add_argument("--teacher", type=Path, default=Path("runs/teacher/classifier.safetensors"))
    parser.add_argument("--generator", action="append", default=None, help="sources to host; the packaged ones")
    parser.add_argument("--only", action="append", default=None, help="train these arms only")
    parser.add_argument("--runs", type=Path, default=Path("runs/generators"), help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    given = parser.parse_args()
    final = given.table == "gap"
    size, epochs = SIZES[given.table]
    size, epochs = given.size or size, given.epochs or epochs
    split: Split = "test" if final else "validation"
    arms, compared = TABLES[given.table](size, given.teacher)
    if given.only:
        arms = {arm: arms[arm] for arm in given.only}
        compared = [pair for pair in compared if set(pair) <= set(arms)]
    comparison = Comparison(
        name=given.table,
        arms=arms,
        compared=compared,
        seeds=given.seeds or (3 if given.table in ("several", "gap") else 1),
        epochs=epochs,
        split=split,
        runs=given.runs / given.table,
        generators=tuple(given.generator or ()),
        precision="bfloat16",
        facts={"size": size},
    )
    compare(comparison, given.out)


if __name__ == "__main__":
    from nonesuch.host.process import ensure_cpu_settings

    ensure_cpu_settings()
    main()
