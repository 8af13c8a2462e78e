"""The rows that a strategy has filled so far, where that takes more than one pass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nonesuch.tally import NOTHING, Tally
from nonesuch_worker.strategies.base import Draw, MintContext, MintedRows


class FilledRows:
    """The rows that are filled so far. Takes them in any order and hands them out in the context's. A row that is put
    again replaces the first."""

    def __init__(self, ctx: MintContext[Any]) -> None:
        self._ctx = ctx
        n = len(ctx.indices)
        self._filled = np.zeros(n, bool)
        self._images = np.empty((n, *ctx.generators[0].info.image_shape), np.uint8)
        self._generator = np.zeros(n, np.int32)
        self._attempt = np.zeros(n, np.int32)
        self._columns: dict[str, NDArray[Any]] = {}

    @property
    def open(self) -> NDArray[np.int64]:
        """The places in the context that nothing was put in, (n,)."""
        return np.flatnonzero(~self._filled)

    def put(
        self, draw: Draw, attempt: int, images: Tensor, taken: NDArray[np.bool_], **columns: NDArray[np.generic]
    ) -> None:
        """Fill the rows of a draw that are taken.

        Args:
            draw: n rows.
            attempt: of the context's latents, the one that the draw was made with.
            images: (n, H, W, C) uint8.
            taken: (n,).
            columns: `score`, `score_before`, `flips` as in `MintedRows`, (n,) each, and `z`, (n, Z) float16: the same
                ones in every call.
        """
        rows = draw.rows[taken]
        self._filled[rows] = True
        self._images[rows] = images.cpu().numpy()[taken]
        self._generator[rows] = draw.generator
        self._attempt[rows] = attempt
        for name, values in columns.items():
            wide = values.ndim > 1  # latents, whose length is their generator's
            column = self._columns.setdefault(name, np.empty(len(self._filled), object if wide else values.dtype))
            for row, value in zip(rows, values[taken], strict=True):
                column[row] = value

    def minted(self, tally: Tally = NOTHING) -> MintedRows:
        """The rows that were filled."""
        rows = np.flatnonzero(self._filled)
        columns = {name: column[rows] for name, column in self._columns.items()}
        z = columns.pop("z", None)
        return MintedRows(
            images=self._images[rows],
            labels=self._ctx.labels[rows],
            indices=self._ctx.indices[rows],
            generator=self._generator[rows],
            attempt=self._attempt[rows],
            z=None if z is None else list(z),
            tally=tally,
            **columns,
        )
