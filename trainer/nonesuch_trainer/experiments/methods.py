"""Compare the methods: what a classifier learns from minted images that were chosen in different ways.

    nonesuch train trainer/configs/teacher.toml
    python -m nonesuch_trainer.experiments.methods --seeds 3 --out docs/results/methods.json

Every arm has the same classifier, the same number of steps and images an epoch, and the same seeds; a seed draws
weights, order and minted images anew. `select` is the control of `hsm` at equal compute: with S steps of mining it
chooses among 2S + 1 images, which takes as many passes of the generator. Judged after the last epoch, once as it is
and once with batch norm adapted (BNA) to real training images without labels. Nothing was tuned on the test images.

Every run has a folder below --runs and resumes; a finished one is only judged again.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nonesuch.classifiers import Normalisation, input_tensor
from nonesuch.files import write_atomically
from nonesuch.link import Link
from nonesuch.local import LocalService
from nonesuch.realdata import RealImages, load_fashion_mnist
from nonesuch_trainer.config import Adapt, Augment, Evaluate, Minted, Real, Recipe, TrainConfig
from nonesuch_trainer.datasets import Teacher
from nonesuch_trainer.experiments.statistics import paired, spread, wilson
from nonesuch_trainer.loop import train

STEPS, ETA = 5, 0.05
RANDOM = Recipe(strategy="random")
MINED = Recipe(strategy="hsm", params={"steps": STEPS, "eta": ETA})
SELECTED = Recipe(strategy="select", params={"k": 2 * STEPS + 1})
FILTERED = Recipe(strategy="filtered", params={"threshold": 0.5})
FRESH: dict[str, tuple[Recipe, ...]] = {
    "fixed": (),
    "smoothing": (RANDOM,),
    "smoothing+select": (SELECTED, RANDOM),
    "smoothing+hsm": (MINED, RANDOM),
    "smoothing+filtered": (FILTERED,),
}
ARMS = (*FRESH, "real")
COMPARED = (
    ("smoothing", "fixed"),
    ("smoothing+hsm", "smoothing"),
    ("smoothing+hsm", "smoothing+select"),
    ("smoothing+filtered", "smoothing"),
)
"""First against second."""


def config_of(arm: str, seed: int, given: argparse.Namespace) -> TrainConfig:
    """The run of an arm. A teacher is there for the arm that filters, and only for it."""
    dataset: Minted | Real
    if arm == "real":
        dataset = Real(kind="real", size=given.size)
    else:
        filters = arm == "smoothing+filtered"
        dataset = Minted(
            size=given.size,
            replacement=0.5 if FRESH[arm] else 0.0,
            first=FILTERED if filters else RANDOM,
            fresh=FRESH[arm] or (RANDOM,),
            teacher=Teacher(classifier=given.teacher) if filters else None,
        )
    name = f"{arm.replace('+', '-')}-{seed}"
    return TrainConfig(
        run=f"methods-{name}",
        seed=seed,
        epochs=given.epochs,
        dataset=dataset,
        augment=Augment(shift=2, hflip=True),
        evaluate=Evaluate(split=given.split, every=given.epochs),
        adapt=Adapt(to="fashion-mnist/train", seed=seed),
        out=given.runs / name,
    )


def right(model: nn.Module, real: RealImages, normalisation: Normalisation) -> NDArray[np.bool_]:
    """(M,) which images a classifier gets right."""
    model.eval()
    with torch.inference_mode():
        parts = [
            model(input_tensor(x, normalisation)).argmax(dim=1) for x in torch.split(torch.from_numpy(real.images), 500)
        ]  # (B,) each
    correct: NDArray[np.bool_] = torch.cat(parts).numpy() == real.labels
    return correct


def run(link: Link, given: argparse.Namespace) -> Iterator[tuple[str, int, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Arm, seed, and which images it got right, without and with BNA: as they are there."""
    real = load_fashion_mnist(given.split)
    for seed in range(given.seeds):
        for arm in ARMS:
            if arm == "smoothing+filtered" and given.teacher is None:
                continue
            config = config_of(arm, seed, given)
            result = train(config, link)
            assert result.adapted is not None
            models = result.model, result.adapted.model
            plain, adapted = (right(model, real, config.normalisation) for model in models)
            yield arm, seed, plain, adapted


def summary(found: dict[tuple[str, bool], list[NDArray[np.bool_]]], given: argparse.Namespace) -> dict[str, Any]:
    """Rows and comparisons, in per cent."""
    rows = []
    for (arm, bna), seeds in found.items():
        accuracies = [100 * float(one.mean()) for one in seeds]
        pooled = np.concatenate(seeds)
        low, high = wilson(int(pooled.sum()), len(pooled))
        rows.append(
            {
                "dataset": arm,
                "bna": bna,
                "mean": round(float(np.mean(accuracies)), 2),
                "seeds": [round(a, 2) for a in accuracies],
                "interval_of_the_mean": round(spread(accuracies), 2) if len(accuracies) > 1 else None,
                "wilson_95": [round(100 * low, 2), round(100 * high, 2)],
            }
        )
    pairs: list[tuple[tuple[str, bool], tuple[str, bool]]] = [((a, False), (b, False)) for a, b in COMPARED]
    pairs += [((arm, True), (arm, False)) for arm in FRESH]
    comparisons = []
    for one, other in pairs:
        if one in found and other in found:
            result = paired(np.stack(found[one]), np.stack(found[other]))
            names = [f"{arm} with BNA" if bna else arm for arm, bna in (one, other)]
            difference, p = round(100 * result.difference, 2), float(f"{result.p_value:.2g}")
            comparisons.append({"first": names[0], "second": names[1], "difference": difference, "mcnemar_p": p})
    plan = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    return {"rows": rows, "comparisons": comparisons, "plan": plan, "hsm": {"steps": STEPS, "eta": ETA}}


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
    found: dict[tuple[str, bool], list[NDArray[np.bool_]]] = {}
    with LocalService(logs=given.runs / "logs", port=None) as service, Link(service.redis) as link:
        for arm, seed, plain, adapted in run(link, given):
            found.setdefault((arm, False), []).append(plain)
            found.setdefault((arm, True), []).append(adapted)
            print(f"{arm}, seed {seed}: {100 * plain.mean():.2f} %, with BNA {100 * adapted.mean():.2f} %", flush=True)
    results = summary(found, given)
    write_atomically(given.out, (json.dumps(results, indent=2) + "\n").encode())
    for row in results["rows"]:
        print(
            f"{row['dataset']:20} {'BNA' if row['bna'] else '   '} {row['mean']:6.2f} ± {row['interval_of_the_mean']}"
        )
    for c in results["comparisons"]:
        print(f"{c['first']} − {c['second']}: {c['difference']:+.2f} points (McNemar p = {c['mcnemar_p']})")


if __name__ == "__main__":
    from nonesuch.process import ensure_cpu_settings

    ensure_cpu_settings()
    main()
