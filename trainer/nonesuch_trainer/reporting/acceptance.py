"""A picture of what a choosy strategy kept and rejected, class by class (Pham et al. 2019, figures 6 and 7)."""

from collections.abc import Sequence
from pathlib import Path

from nonesuch.tally import Tally
from nonesuch_trainer.reporting.figures import new_figure, save_figure

_NAMED = 30
"""The number of classes up to which the bars have names."""


def save_acceptance(path: Path, tally: Tally, class_names: Sequence[str]) -> None:
    """Write a PNG with a bar for each class that was tried: images kept, rejected by label, rejected by threshold.

    Above each of a few bars stands the percentage that was kept.
    """
    labels = sorted(label for label, n in tally.tried.items() if n)
    figure = new_figure(max(6.0, min(16.0, 0.7 * len(labels) + 2)), 4.5)
    axes = figure.subplots()
    below = [0] * len(labels)
    for counter, name, colour in (
        (tally.kept, "kept", "tab:green"),
        (tally.wrong_label, "rejected by label", "tab:red"),
        (tally.below_threshold, "rejected by threshold", "tab:orange"),
    ):
        heights = [counter[label] for label in labels]
        axes.bar(range(len(labels)), heights, bottom=below, label=name, color=colour, width=0.8)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    if len(labels) <= _NAMED:
        axes.set_xticks(range(len(labels)), [class_names[label] for label in labels], rotation=45, ha="right")
        for place, (label, top) in enumerate(zip(labels, below, strict=True)):
            kept = f"{100 * tally.acceptance(label):.0f} %"
            axes.annotate(kept, (place, top), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(title=f"{100 * tally.acceptance():.1f} % of {tally.tried.total():,} images kept", ylabel="images")
    axes.margins(y=0.08)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)
