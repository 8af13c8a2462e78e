"""Compare training sets: the same classifier, steps and seeds; only where the images come from differs.

A seed draws weights, order and minted images anew. Every run is judged after the last epoch, once as it is and once
with batch norm adapted (BNA) to real training images without labels. Every run has a folder and resumes; a finished
one is only judged again.

Legend: M judging images.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nonesuch.classifiers.normalisation import input_tensor
from nonesuch.classifiers.spec import Normalisation
from nonesuch.host.files import write_json
from nonesuch.link import Link
from nonesuch.local.service import LocalService
from nonesuch.realdata.fashion_mnist import RealImages, Split, load_fashion_mnist
from nonesuch_trainer.loop import train
from nonesuch_trainer.metrics.statistics import paired, spread, wilson
from nonesuch_trainer.settings.adapting import Adapt
from nonesuch_trainer.settings.config import TrainConfig
from nonesuch_trainer.settings.datasets import Minted, Real
from nonesuch_trainer.settings.learning import Augment, Evaluate

Right = NDArray[np.bool_]
"""(M,) bool: which judging images a classifier got right."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of training sets: what is compared, and how."""

    name: str
    arms: Mapping[str, Minted | Real]
    """The dataset of each arm, by its name, in the order in which the arms are trained."""
    compared: Sequence[tuple[str, str]]
    """Pairs of arms: the first is compared with the second."""
    seeds: int
    epochs: int
    split: Split
    runs: Path
    """The folder of the runs."""
    generators: tuple[str, ...] = ()
    """The sources of the generators that the workers host; empty for every packaged one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More facts to be kept with the results."""

    def config(self, arm: str, seed: int) -> TrainConfig:
        """The settings of the run of an arm with a seed."""
        name = f"{re.sub('[^A-Za-z0-9.]+', '-', arm)}-{seed}"
        return TrainConfig(
            run=f"{self.name}-{name}",
            seed=seed,
            epochs=self.epochs,
            precision=self.precision,
            dataset=self.arms[arm],
            augment=Augment(shift=2, hflip=True),
            evaluate=Evaluate(split=self.split, every=self.epochs),
            adapt=Adapt(to="fashion-mnist/train", seed=seed),
            out=self.runs / name,
        )


Found = dict[tuple[str, bool], list[Right]]
"""What every arm got right, by arm and whether with BNA, one array for each seed."""


def run(comparison: Comparison, say: Callable[[str], None] = print) -> Found:
    """Train and judge every arm with every seed, seed by seed. Blocks for as long as that takes."""
    found: Found = {}
    real = load_fashion_mnist(comparison.split)
    logs = comparison.runs / "logs"
    with (
        LocalService(logs=logs, port=None, generators=comparison.generators, private=True) as service,
        Link(service.redis) as link,
    ):
        for seed in range(comparison.seeds):
            for arm in comparison.arms:
                config = comparison.config(arm, seed)
                result = train(config, link)
                assert result.adapted is not None
                plain, adapted = (
                    right(model, real, config.normalisation) for model in (result.model, result.adapted.model)
                )
                found.setdefault((arm, False), []).append(plain)
                found.setdefault((arm, True), []).append(adapted)
                say(f"{arm}, seed {seed}: {100 * plain.mean():.2f} %, with BNA {100 * adapted.mean():.2f} %")
    return found


def right(model: nn.Module, real: RealImages, normalisation: Normalisation) -> Right:
    """(M,) bool: which images a classifier gets right."""
    model.eval()
    with torch.inference_mode():
        parts = [
            model(input_tensor(x, normalisation)).argmax(dim=1) for x in torch.split(torch.from_numpy(real.images), 500)
        ]  # (B,) each
    correct: Right = torch.cat(parts).numpy() == real.labels
    return correct


def summary(comparison: Comparison, found: Found) -> dict[str, Any]:
    """What a comparison found: rows of arms and comparisons of pairs, in per cent, and its plan."""
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
    pairs: list[tuple[tuple[str, bool], tuple[str, bool]]] = [((a, False), (b, False)) for a, b in comparison.compared]
    pairs += [((arm, True), (arm, False)) for arm in comparison.arms if arm != "real"]
    comparisons = []
    for one, other in pairs:
        result = paired(np.stack(found[one]), np.stack(found[other]))
        differences = [100 * float(a.mean() - b.mean()) for a, b in zip(found[one], found[other], strict=True)]
        names = [f"{arm} with BNA" if bna else arm for arm, bna in (one, other)]
        comparisons.append(
            {
                "first": names[0],
                "second": names[1],
                "difference": round(100 * result.difference, 2),
                "interval_of_the_difference": round(spread(differences), 2) if len(differences) > 1 else None,
                "mcnemar_p": float(f"{result.p_value:.2g}"),
            }
        )
    plan = {
        "seeds": comparison.seeds,
        "epochs": comparison.epochs,
        "split": comparison.split,
        "precision": comparison.precision,
        "arms": {
            arm: dataset.model_dump(mode="json", exclude_defaults=True) for arm, dataset in comparison.arms.items()
        },
        **comparison.facts,
    }
    return {"rows": rows, "comparisons": comparisons, "plan": plan}


def compare(comparison: Comparison, out: Path) -> dict[str, Any]:
    """Run a comparison, write its summary as JSON, and print it."""
    results = summary(comparison, run(comparison, lambda line: print(line, flush=True)))
    write_json(out, results)
    for row in results["rows"]:
        print(
            f"{row['dataset']:28} {'BNA' if row['bna'] else '   '} {row['mean']:6.2f} ± {row['interval_of_the_mean']}"
        )
    for c in results["comparisons"]:
        print(f"{c['first']} − {c['second']}: {c['difference']:+.2f} points (McNemar p = {c['mcnemar_p']})")
    return results
