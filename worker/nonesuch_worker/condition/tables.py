"""A conditioning on paper: tables for people."""

from collections.abc import Sequence

from rich.table import Table

from nonesuch_worker.condition.measuring import Report
from nonesuch_worker.condition.scores import Scores
from nonesuch_worker.generators.conditioned.config import ConditionConfig


def scores_table(found: Scores, by: str) -> Table:
    """The scores of each class, set out as in Mekonnen 2024, Table 2."""
    table = Table("", "precision", "recall", "F1", "support", title=f"judged by the {by}")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.classes:
        table.add_row(row.name, *_fixed(row.precision, row.recall, row.f1), f"{row.support}")
    total = f"{sum(row.support for row in found.classes)}"
    table.add_section()
    table.add_row("accuracy", "", "", f"{found.accuracy:.3f}", total)
    table.add_row("macro average", *_fixed(found.macro_precision, found.macro_recall, found.macro_f1), total)
    return table


def diversity_table(report: Report) -> Table:
    """How diverse each class is, beside the base generator's own images of it."""
    table = Table("", "diversity", "mean σ", "|μ| / √Z", "share of the base", title="diversity (1: as the base's own)")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in report.classes:
        share = f"{100 * row.base_share:.1f} %"
        table.add_row(row.name, *_fixed(row.diversity, row.sigma, row.shift), share)
    table.add_section()
    table.add_row("mean", *_fixed(report.diversity, report.sigma), "", "")
    return table


def curve_table(points: Sequence[tuple[ConditionConfig, Report]]) -> Table:
    """The trade-off of a curve: a row for each weight."""
    regulariser = points[0][0].regulariser
    table = Table("weight", "accuracy", "macro F1", "judge", "diversity", "mean σ", title=f"regulariser {regulariser}")
    for column in table.columns:
        column.justify = "right"
    for config, report in points:
        judge = report.judge.accuracy if report.judge else None
        said = _fixed(report.classifier.accuracy, report.classifier.macro_f1, judge, report.diversity, report.sigma)
        table.add_row(f"{config.strength:g}", *said)
    return table


def _fixed(*values: float | None) -> list[str]:
    return ["–" if value is None else f"{value:.3f}" for value in values]
