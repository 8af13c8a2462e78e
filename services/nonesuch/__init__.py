"""Nonesuch: labelled training images that do not exist.

    Client, AsyncClient    images from a gateway, over HTTP
    Batch                  what they give
    SmoothedDataset        a torch dataset, part of which is minted anew after every epoch

Importing this package pulls neither torch nor ray nor fastapi, nor any of these four before they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonesuch.client import AsyncClient, Batch, Client
    from nonesuch.smoothed.dataset import SmoothedDataset

from nonesuch.host.release import VERSION

__version__ = VERSION

__all__ = ["AsyncClient", "Batch", "Client", "SmoothedDataset"]

_HOMES = {
    "AsyncClient": "nonesuch.client",
    "Batch": "nonesuch.client",
    "Client": "nonesuch.client",
    "SmoothedDataset": "nonesuch.smoothed.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
