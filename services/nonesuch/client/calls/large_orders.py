"""The calls for large orders, which are made in the background and fetched once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from nonesuch.client.calls.base import BaseCalls, parsed
from nonesuch.client.calls.exporting import WRITTEN, Exported, OnBytes, untold, written
from nonesuch.client.exchange.answers import whole
from nonesuch.client.exchange.asking import ARROW, Asked, mint_ask
from nonesuch.client.exchange.flow import Flow
from nonesuch.client.exchange.wire import Ask
from nonesuch.effects import Op
from nonesuch.order_status import OrderStatus
from nonesuch.schema import format_of

PLACE = "/v1/orders"
JSON = "application/json"
RESULTS_S = 3600.0
"""How long the next batch of a large order may take, in seconds: workers serve those who wait for an answer first."""


class LargeOrderCalls(BaseCalls):
    """The calls for orders that outlive the request."""

    def place_order(self, count: int | None = None, **asked: Unpack[Asked]) -> Op[OrderStatus]:
        """Order images that are made in the background, after those that somebody waits for.

        Only so many wait for their reader: workers pause until `order_results` or `export_order` reads the first ones,
        so read while they are made. An order that nobody asks about is dropped, after an hour by default.

        Args and raises: as `mint`; `deadline` is for the whole order. The answer's `id` is what the other calls take.
        """
        ask = mint_ask(count, asked, path=PLACE, accept=JSON)
        _, document = yield from whole(ask, self.attempts())
        return parsed(OrderStatus, document, PLACE)

    def order(self, order_id: str) -> Op[OrderStatus]:
        """How far an order is. Raises `OrderNotFound`: its results were read, it was cancelled or dropped."""
        return (yield from self.get(OrderStatus, _path(order_id)))

    def order_results(self, order_id: str) -> Flow:
        """The images of an order, as they are made: an iterator of batches, in index order. They can be read once.

        Closing the iterator, or leaving it, cancels what was not made yet. An answer that is cut off cannot go on: it
        raises `Unreachable`, and the same order with its seed makes the same images.

        Raises `OrderNotFound`; `Conflict` when somebody else reads them; `OrderFailed`, `TakeTimeout`: it ended early.
        """
        return Flow(_results(order_id, ARROW), self.attempts(), once=True)

    def export_order(
        self, order_id: str, path: str | Path, *, format: str | None = None, on_bytes: OnBytes | None = None
    ) -> Op[Exported]:
        """The images of an order as a file. Blocks until it is complete; `path`, `format` and `on_bytes` as `export`.

        Raises what `export` and `order_results` raise.
        """
        path = Path(path)
        ask = _results(order_id, "*/*", {"format": format or format_of(path, WRITTEN)})
        return (yield from written(ask, path, self.attempts(), on_bytes or untold, once=True))

    def cancel_order(self, order_id: str) -> Op[OrderStatus]:
        """End an order; how far it was. Batches that nobody read are dropped. Raises `OrderNotFound`."""
        path = _path(order_id)
        _, document = yield from whole(Ask("DELETE", path), self.attempts())
        return parsed(OrderStatus, document, path)


def _path(order_id: str) -> str:
    return f"{PLACE}/{quote(order_id, safe='')}"


def _results(order_id: str, accept: str, params: Mapping[str, str] | None = None) -> Ask:
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    return Ask("GET", f"{_path(order_id)}/results", params=params or {}, headers=headers, patience_s=RESULTS_S)
