"""Numbers that are not finite are refused where they are born.

What is NaN is black as a pixel and false in every comparison, so later nobody sees it. One such number among a ticket's
ends its order with the cause: no row is left out for it, because what overflows does so again on any worker.

Shapes: B rows.
"""

import torch
from torch import Tensor

from nonesuch.errors import InvalidValue

IMAGES = "images"
_REMEDIES = {
    IMAGES: "their generator overflows: give a smaller sigma or truncation, and have `nonesuch generators verify` look "
    "at the weights",
    "gradients": "generator and classifier together overflow: publish a classifier with smaller activations",
}
_OF_A_CLASSIFIER = "its activations overflow, as after a training that diverged: publish another one"


def finite_rows(x: Tensor) -> Tensor:
    """(B,) bool, on the same device: which rows of (B, …) have finite numbers only. Does not wait for a GPU."""
    finite = torch.isfinite(x.detach())
    return finite if finite.ndim == 1 else finite.flatten(1).all(dim=1)


def require_finite(finite: Tensor, what: str) -> None:
    """Raise `InvalidValue` unless all of (B,) `finite` are true. Blocks until they are known.

    Args:
        finite: of each row, as `finite_rows` returns it.
        what: the numbers, in the plural: `IMAGES`, "gradients", or "answers of the teacher" and the like.
    """
    bad = (~finite).nonzero()[:, 0]
    if len(bad):
        raise InvalidValue(
            f"{len(bad)} of {len(finite)} {what} are not finite, the first at row {int(bad[0])}: "
            f"{_REMEDIES.get(what, _OF_A_CLASSIFIER)}"
        )


class FiniteChecks:
    """Numbers on their way through several steps. To look at each at once would stop a GPU at every step."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Tensor]] = []

    def add(self, x: Tensor, what: str) -> None:
        """Remember which rows of x, (B, …), are finite; `what` as in `require_finite`. Does not block."""
        self._found.append((what, finite_rows(x)))

    def require(self) -> None:
        """Raise `InvalidValue` for the first that was not finite of all that were added: the rest came of it. Blocks
        until they are known."""
        found, self._found = self._found, []
        if found and not bool(torch.stack([finite.all() for _, finite in found]).all()):
            for what, finite in found:
                require_finite(finite, what)
