"""Inception score (Salimans et al. 2016) by any classifier.

exp E KL(p(y|x) ‖ p(y)): from 1, when every image is given the same prediction, to K, when the classifier is sure of
each image and finds each of the K classes equally often. It sees no real image and no difference within a class, so it
does not rank generators for training.
"""

import numpy as np

from nonesuch.errors import InvalidValue
from nonesuch.model import Frozen
from nonesuch.seeds import numpy_rng
from nonesuch_trainer.metrics.inputs import FloatArray

_SUM_TOLERANCE = 1e-3
"""How far a row's sum may be from 1: more than float16 rounds in a softmax."""


class Score(Frozen):
    """An Inception score, over the splits."""

    mean: float
    std: float
    """The standard deviation of one split, not of the mean."""


def class_score(probabilities: FloatArray, splits: int = 10, seed: int | None = None) -> Score:
    """The score of a classifier's probabilities, (N, K), as mean and standard deviation over equal splits.

    p(y) is that of the split. Splits follow the order of the images unless a `seed` shuffles them: shuffle when they
    are sorted by class, or a split has but one class and scores 1.

    Raises `InvalidValue` when rows are no probabilities or fewer than `splits`.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or splits < 1:
        raise InvalidValue(f"probabilities of shape {p.shape} in {splits} splits: give (N, K), and at least 1 split")
    if len(p) < splits:
        raise InvalidValue(f"{len(p)} images are too few for {splits} splits: give at least {splits}")
    wrong = ~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < _SUM_TOLERANCE))  # NaN is wrong too
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidValue(
            f"row {row} sums to {p[row].sum():.6g} with a smallest value of {p[row].min():.6g}: give probabilities, "
            "such as the softmax of logits"
        )
    if seed is not None:
        p = numpy_rng(seed, "shuffle").permutation(p)
    scores = []
    for part in np.array_split(p, splits):
        marginal = part.mean(axis=0)  # (K,)
        ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)  # 0·log 0 = 0
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
    return Score(mean=float(np.mean(scores)), std=float(np.std(scores)))
