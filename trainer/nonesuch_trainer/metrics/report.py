"""An evaluation for people and for programs: rows of a table, JSON, pictures."""

import re
from collections.abc import Mapping
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
_SHOWN = {"fid": "FID", "kid": "KID", "score": "classifier score", "ms_ssim": "MS-SSIM", "agreement": "label agreement"}
"""Measures that are called otherwise by people than by programs."""


def measure_rows(findings: Findings) -> list[tuple[str, str, str, str]]:
    """The rows of a table: (measure, of generated images, of real images: the floor, what is better)."""
    made, floor = findings.generated, findings.floor
    kid, kid_std, floor_kid = (value and 1000 * value for value in (made.kid, made.kid_std, floor.kid))
    rows = [
        ("FID", _number(made.fid, 2), _number(floor.fid, 2), "lower"),
        ("KID × 1000", f"{_number(kid, 2)} ± {_number(kid_std, 2)}", _number(floor_kid, 2), "lower"),
        ("precision", _number(made.precision), _number(floor.precision), "as real"),
        ("recall", _number(made.recall), _number(floor.recall), "as real"),
        ("density", _number(made.density), _number(floor.density), "as real"),
        ("coverage", _number(made.coverage), _number(floor.coverage), "higher"),
        ("classifier score", _number(made.score, 2), _number(floor.score, 2), "as real"),
        ("MS-SSIM in a class", _number(over_classes(made.ms_ssim)), _number(over_classes(floor.ms_ssim)), "as real"),
        ("label agreement", _number(over_classes(made.agreement)), _number(over_classes(floor.agreement)), "as real"),
    ]
    if side := min(made.discriminability, default=0):
        small, floor_small = (_number(of.discriminability.get(side)) for of in (made, floor))
        rows.append((f"the same, reduced to {side} px", small, floor_small, "as real"))
    return rows


def missing_lines(findings: Findings) -> list[str]:
    """What could not be taken, and why, a line for each reason."""
    lines = []
    for whose, measures in (("generated images", findings.generated), ("the floor", findings.floor)):
        names: dict[str, list[str]] = {}
        for name, why in measures.missing.items():
            names.setdefault(why, []).append(_SHOWN.get(name, name))
        lines += [f"not measured of {whose}: {', '.join(which)}: {why}" for why, which in names.items()]
    if findings.unlearned:
        lines.append(f"not learned: {findings.unlearned}")
    return lines


def real_ones(twins: Twins, size: int) -> str:
    """How many real images the twin learned from, in words, beside `size` generated ones."""
    return "as many real ones" if twins.real_images == size else f"{twins.real_images:,} real ones, in as many steps"


def class_rows(findings: Findings) -> list[tuple[str, ...]]:
    """The rows of a table, one for each class: its name; accuracy on real images, learned from generated and from real
    ones, over the seeds; agreement and MS-SSIM, of generated and of real images."""
    made, floor = findings.generated, findings.floor
    rows = []
    for label in findings.facts.classes:
        learned = [_percent(_of_class(findings.twins, which, label)) for which in ("minted", "real")]
        pairs = [(made.agreement, floor.agreement), (made.ms_ssim, floor.ms_ssim)]
        values = [_number(of.get(label), 2) for pair in pairs for of in pair]
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
    if findings.unlearned:
        found["not_learned"] = findings.unlearned
    if findings.twins:
        found["real_images_learned_from"] = findings.twins[0].real_images
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
    bars: dict[str, Mapping[int, float]]
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
        known = {place: values[label] for place, label in enumerate(labels) if label in values}
        axes.bar([place + 0.4 * i - 0.2 for place in known], [100 * v for v in known.values()], width=0.4, label=name)
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


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _plain(name: str) -> str:
    """A class's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
