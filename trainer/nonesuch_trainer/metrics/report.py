"""An evaluation for people and for programs: rows of a table, JSON, pictures."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nonesuch.host.files import write_json
from nonesuch_trainer.metrics.evaluation import Findings
from nonesuch_trainer.metrics.learnability import right_answers
from nonesuch_trainer.metrics.measures import over_classes
from nonesuch_trainer.metrics.statistics import spread, wilson
from nonesuch_trainer.metrics.yardstick import Twins
from nonesuch_trainer.reporting.figures import new_figure, save_figure
from nonesuch_trainer.reporting.grid import save_grid

DOCUMENT = "evaluation.json"
_COLUMNS = 16


def measure_rows(findings: Findings) -> list[tuple[str, str, str, str]]:
    """The rows of a table: (measure, of generated images, of real images: the floor, what is better)."""
    made, floor = findings.generated, findings.floor
    side = min(made.discriminability)
    rows = [
        ("FID", f"{made.fid:.2f}", f"{floor.fid:.2f}", "lower"),
        ("KID × 1000", f"{1000 * made.kid:.2f} ± {1000 * made.kid_std:.2f}", f"{1000 * floor.kid:.2f}", "lower"),
        ("precision", f"{made.precision:.3f}", f"{floor.precision:.3f}", "as real"),
        ("recall", f"{made.recall:.3f}", f"{floor.recall:.3f}", "as real"),
        ("density", f"{made.density:.3f}", f"{floor.density:.3f}", "as real"),
        ("coverage", f"{made.coverage:.3f}", f"{floor.coverage:.3f}", "higher"),
        ("classifier score", f"{made.score:.2f}", f"{floor.score:.2f}", "as real"),
        ("MS-SSIM in a class", f"{over_classes(made.ms_ssim):.3f}", f"{over_classes(floor.ms_ssim):.3f}", "as real"),
        ("label agreement", f"{over_classes(made.agreement):.3f}", f"{over_classes(floor.agreement):.3f}", "as real"),
        (
            f"the same, reduced to {side} px",
            f"{made.discriminability[side]:.3f}",
            f"{floor.discriminability[side]:.3f}",
            "as real",
        ),
    ]
    return rows


def class_rows(findings: Findings) -> list[tuple[str, ...]]:
    """The rows of a table, one for each class: its name; accuracy on real images, learned from generated and from real
    ones, over the seeds; agreement and MS-SSIM, of generated and of real images."""
    made, floor = findings.generated, findings.floor
    rows = []
    for label in findings.facts.classes:
        learned = [_percent(_of_class(findings.twins, which, label)) for which in ("minted", "real")]
        pairs = [(made.agreement, floor.agreement), (made.ms_ssim, floor.ms_ssim)]
        values = [f"{of.get(label, float('nan')):.2f}" for pair in pairs for of in pair]
        rows.append((findings.facts.class_names[label], *learned, *values))
    return rows


def document(findings: Findings) -> dict[str, Any]:
    """All findings as JSON; accuracies are in per cent."""
    names = findings.facts.class_names
    found: dict[str, Any] = {
        "generators": list(findings.plan.generators),
        "judged_on": findings.judged_on,
        "generated": findings.generated.document(names),
        "floor": findings.floor.document(names),
        "weights": dict(findings.facts.origins),
        "real_information": findings.facts.ledger.statement,
        "plan": findings.plan.model_dump(mode="json"),
    }
    if findings.twins:
        found["learned"] = {which: _learned(findings, which) for which in ("minted", "real")}
        gaps = [100 * twins.gap for twins in findings.twins]
        found["gap"] = {"mean": round(float(np.mean(gaps)), 2), "seeds": [round(gap, 2) for gap in gaps]}
        if len(gaps) > 1:
            found["gap"]["interval_of_the_mean"] = round(spread(gaps), 2)
    return found


def write_report(findings: Findings, folder: Path) -> list[Path]:
    """Write the findings into a folder, as JSON and PNGs; returns the files, the JSON first."""
    path = folder / DOCUMENT
    write_json(path, document(findings))
    return [path, *_grids(findings, folder), _bars(findings, folder), _resolutions(findings, folder)]


def _grids(findings: Findings, folder: Path) -> list[Path]:
    """Write a sheet for each class: two rows of generated images above two of real ones."""
    made, real = findings.images, findings.real
    paths = []
    for label in findings.facts.classes:
        parts = [of.images[of.labels == label][: 2 * _COLUMNS] for of in (made, real)]
        images = torch.from_numpy(np.concatenate(parts))
        rows = torch.cat([2 * i + torch.arange(len(part)) // _COLUMNS for i, part in enumerate(parts)])
        paths.append(folder / "grids" / f"{label:02d}-{_plain(findings.facts.class_names[label])}.png")
        save_grid(paths[-1], images, rows, columns=_COLUMNS)
    return paths


def _bars(findings: Findings, folder: Path) -> Path:
    """Plot accuracy by class, or the feature network's agreement where nothing was learned."""
    if findings.twins:
        title, bars = f"accuracy on {findings.judged_on}", {
            "learned from generated images": _by_class(findings.twins, "minted"),
            "learned from real images": _by_class(findings.twins, "real"),
        }  # fmt: skip
    else:
        title = "label agreement of the feature network"
        bars = {"generated": findings.generated.agreement, "real": findings.floor.agreement}
    figure = new_figure(9, 4.5)
    axes = figure.subplots()
    labels = findings.facts.classes
    for i, (name, values) in enumerate(bars.items()):
        places = [place + 0.4 * i - 0.2 for place in range(len(labels))]
        axes.bar(places, [100 * values.get(label, 0.0) for label in labels], width=0.4, label=name)
    axes.set_xticks(range(len(labels)), [findings.facts.class_names[k] for k in labels], rotation=45, ha="right")
    axes.set(title=title, ylabel="%", ylim=(0, 100))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    path = folder / "per-class.png"
    save_figure(figure, path)
    return path


def _resolutions(findings: Findings, folder: Path) -> Path:
    """Plot discriminability as a function of resolution (Odena et al. 2017, figure 2)."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, measures in (("generated", findings.generated), ("real", findings.floor)):
        sides = sorted(measures.discriminability)
        axes.plot(sides, [100 * measures.discriminability[side] for side in sides], marker=".", label=name)
    axes.set(title="discriminability", xlabel="images reduced to, px", ylabel="label agreement in %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    path = folder / "resolution.png"
    save_figure(figure, path)
    return path


def _learned(findings: Findings, which: str) -> dict[str, Any]:
    evaluations = [getattr(twins, which) for twins in findings.twins]
    answers = [right_answers(evaluation) for evaluation in evaluations]
    low, high = wilson(sum(right for right, _ in answers), sum(total for _, total in answers))
    by_class = _by_class(findings.twins, which)
    return {
        "mean": round(100 * float(np.mean([evaluation.accuracy for evaluation in evaluations])), 2),
        "seeds": [round(100 * evaluation.accuracy, 2) for evaluation in evaluations],
        "wilson_95": [round(100 * low, 2), round(100 * high, 2)],
        "per_class": {findings.facts.class_names[label]: round(100 * a, 2) for label, a in by_class.items()},
    }


def _by_class(twins: tuple[Twins, ...], which: str) -> dict[int, float]:
    """The mean over seeds of a class's accuracy."""
    found = [getattr(one, which).per_class for one in twins]
    return {label: float(np.mean([per_class[label] for per_class in found])) for label in found[0]}


def _of_class(twins: tuple[Twins, ...], which: str, label: int) -> float | None:
    return _by_class(twins, which).get(label) if twins else None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _plain(name: str) -> str:
    """A class's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
