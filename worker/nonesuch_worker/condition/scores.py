"""Precision, recall and F1 of each class, as Mekonnen 2024 reports them (Table 2)."""

import numpy as np
from numpy.typing import NDArray

from nonesuch.model import Frozen


class ClassScore(Frozen):
    """The scores of one class. What would divide by zero is 0: a class that was never seen has precision 0."""

    name: str
    precision: float
    """The fraction of the images taken for this class that were asked to be this class."""
    recall: float
    """The fraction of the images asked to be this class that were taken for it."""
    f1: float
    support: int
    """How many images were asked to be this class."""


class Scores(Frozen):
    """What a classifier says of images that were asked to show one class each."""

    classes: tuple[ClassScore, ...]
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


def scores(confusion: NDArray[np.int64], names: tuple[str, ...]) -> Scores:
    """The scores of counts (K, K), rows by the class that was asked for and columns by the one that was seen."""
    right = confusion.diagonal().astype(np.float64)  # (K,)
    seen, asked = confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(seen, 1), right / np.maximum(asked, 1)
    f1 = 2 * right / np.maximum(seen + asked, 1)
    rows = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), asked.tolist(), strict=True)
    return Scores(
        classes=tuple(ClassScore(name=n, precision=p, recall=r, f1=f, support=s) for n, p, r, f, s in rows),
        accuracy=float(right.sum() / max(asked.sum(), 1)),
        macro_precision=float(precision.mean()),
        macro_recall=float(recall.mean()),
        macro_f1=float(f1.mean()),
    )
