"""The SDK: images from a gateway, over HTTP. Takes httpx; torch, pandas and Pillow only where they are asked for.

    Client ──────┐              ┌──► answers ──► splitting ──► Batch
                 ├──► calls ────┤
    AsyncClient ─┘              └──► retries
         │
         └──► httpx ──► gateway

What is right of the clients is written once and does no I/O (`exchange.wire`).
"""

from nonesuch.classifiers.published import Snapshot
from nonesuch.client.images.batch import Batch
from nonesuch.client.images.extras import needed

needed("httpx", "client", "nonesuch.Client")

from nonesuch.client.awaited import AsyncClient, AsyncStream  # noqa: E402
from nonesuch.client.blocking import Client, Stream  # noqa: E402
from nonesuch.client.calls.exporting import Exported  # noqa: E402

__all__ = ["AsyncClient", "AsyncStream", "Batch", "Client", "Exported", "Snapshot", "Stream"]
