"""Images for a dataset, through a gateway.

Over HTTP nobody can withdraw a snapshot, so all datasets share a channel, which keeps the last few models of them all.
An order names the version that its model got there, and keeps it as long as it is open.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from nonesuch.classifiers.published import Snapshot
from nonesuch.client import AsyncClient, Client
from nonesuch.errors import SnapshotNotFound
from nonesuch.host.stopping import Stopped, pause
from nonesuch.link.patience import PASSING
from nonesuch.offers import Catalog, WorkerInfo
from nonesuch.orders import Order, SnapshotRef
from nonesuch.smoothed.intake import Intake
from nonesuch.smoothed.orders import Wanted
from nonesuch.smoothed.resident import NO_SNAPSHOT
from nonesuch.smoothed.source import Came, OnProgress

CHANNEL = "smoothed"
PAUSE_S = 2.0
"""Seconds between two attempts, each of which the client has repeated a few times."""
LOOK_S = 0.5
"""Seconds between two looks for a worker."""
STOP_S = 0.1
"""How many seconds a stop has to wait at most."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class HttpSource:
    """A `FreshSource` that asks a gateway. Raises, when it is made, what `Client.generators` raises.

    The gateway has to make the images of an order within `timeout_s`: it is their deadline.
    """

    def __init__(self, url: str | None, *, token: str | None, timeout_s: float, stop: threading.Event) -> None:
        self._url, self._token = url, token
        self._timeout_s, self._stop = timeout_s, stop
        self._alive_at = 0.0
        self.catalog = self._catalog()

    def mint(self, wanted: Wanted, snapshot: Snapshot | None, on_progress: OnProgress) -> Came:
        # A read that blocks its thread cannot be ended from another one; a task can, and its connection with it.
        return asyncio.run(self._until_stopped(self._mint(wanted, snapshot, on_progress)))

    def close(self) -> None:
        pass  # nothing is open but in `mint`

    def _catalog(self) -> Catalog:
        """A catalogue as if the gateway were a worker that offers what all do. Waits until one is there, `timeout_s` at
        most."""
        end = time.monotonic() + self._timeout_s
        with Client(self._url, self._token) as client:
            while not (generators := client.generators()) and time.monotonic() < end:
                pause(self._stop, min(LOOK_S, self._timeout_s))
            gateway = WorkerInfo(
                id="gateway",
                host=client.settings.url,
                pid=0,
                device="",
                started=0.0,
                generators=generators,
                strategies=client.strategies(),
            )
        return Catalog(workers=(gateway,))

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """What some work returns. Raises `Stopped` soon after the source was told to stop."""
        task = asyncio.create_task(work)
        while not task.done():
            await asyncio.wait({task}, timeout=STOP_S)
            if self._stop.is_set():
                task.cancel()
        if task.cancelled():
            raise Stopped
        return task.result()

    async def _mint(self, wanted: Wanted, snapshot: Snapshot | None, on_progress: OnProgress) -> Came:
        async with AsyncClient(self._url, self._token) as client:
            return await self._patiently(partial(self._attempt, client, wanted, snapshot, on_progress))

    async def _attempt(
        self, client: AsyncClient, wanted: Wanted, snapshot: Snapshot | None, on_progress: OnProgress
    ) -> Came:
        aim = None
        if snapshot is not None:
            header = snapshot.header.model_copy(update={"channel": CHANNEL})
            published = await client.publish_payload(header, snapshot.payload, version=None)
            aim = SnapshotRef(channel=CHANNEL, version=published.version)
        started = time.monotonic()
        asked = wanted.placed(f"epoch-{wanted.birth}", "gateway", aim)
        intake = Intake(asked, wanted.orders.image_shape, 0)
        for order in asked:
            async with client.stream(order.count, **self._asked(order)) as batches:
                async for batch in batches:
                    self._alive_at = time.monotonic()
                    intake.add_rows(order.id, batch.arrow)
                    on_progress(intake.received, intake.wanted)
            intake.complete(order.id)
        came = intake.came(waited_s=time.monotonic() - started)
        if snapshot is not None:  # what the channel calls its version is nothing to the dataset
            versions = np.where(came.images.snapshots == NO_SNAPSHOT, NO_SNAPSHOT, snapshot.header.version)
            came = replace(came, images=replace(came.images, snapshots=versions))
        return came

    def _asked(self, order: Order) -> dict[str, Any]:
        """An order as `Client.stream` takes it. Its labels are balanced: these datasets have no class quota."""
        wanted: dict[str, Any] = {
            "generator": order.generators[0],
            "strategy": order.strategy,
            "params": order.params,
            "classes": order.labels.used,
            "seed": order.seed,
            "deadline": self._timeout_s,
        }
        if order.snapshot is not None:
            wanted |= {"snapshot": order.snapshot.version, "channel": order.snapshot.channel}
        return wanted

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt while the trouble is one that passes. Raises it once nothing came for `timeout_s`."""
        self._alive_at = time.monotonic()
        while True:
            try:
                return await attempt()
            except (*PASSING, SnapshotNotFound) as trouble:  # the latter, when Redis has forgotten it meanwhile
                if time.monotonic() - self._alive_at + PAUSE_S >= self._timeout_s:
                    raise
                log.warning("waiting for the gateway: %s", trouble)
            await asyncio.sleep(PAUSE_S)
