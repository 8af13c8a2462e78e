"""Dataset smoothing (Besnier et al. 2019, Alg. 2): a resident dataset, part of which is minted anew after every epoch.

`resident`, `intake` and `supply` are what the trainer's loop and `SmoothedDataset` share. Imports torch; `nonesuch`
itself imports this package only when it is asked for `SmoothedDataset`.
"""

try:
    import torch as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "SmoothedDataset takes torch, which is not installed: pip install 'nonesuch[torch]'", name=error.name
    ) from None

from nonesuch.smoothed.dataset import SmoothedDataset
from nonesuch.smoothed.reports import Ages, Refreshed

__all__ = ["Ages", "Refreshed", "SmoothedDataset"]
