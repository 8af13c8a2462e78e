"""The calls that mint."""

from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from nonesuch.client.calls.base import BaseCalls
from nonesuch.client.calls.exporting import WRITTEN, Exported, OnBytes, untold, written
from nonesuch.client.exchange.asking import ARROW, DEADLINE_S, Asked, mint_ask
from nonesuch.client.exchange.flow import Flow
from nonesuch.client.exchange.wire import Ask
from nonesuch.client.images.batch import Batch
from nonesuch.effects import Op
from nonesuch.schema import format_of


class MintingCalls(BaseCalls):
    """The calls for images, as batches or as files."""

    def stream(self, count: int | None = None, **asked: Unpack[Asked]) -> Flow:
        """Mint images, and have them as they come: an iterator of batches of at most 64 images, in index order.

        It takes memory for a few of them whatever the count. The request is sent when the first batch is asked for;
        closing the iterator, or leaving it, cancels what was not made yet. An answer that is cut off is asked for
        again, and goes on where it was.

        Args and raises: as `mint`.
        """
        return Flow(mint_ask(count, asked), self.attempts())

    def mint(self, count: int | None = None, **asked: Unpack[Asked]) -> Op[Batch]:
        """Mint images. Blocks until all of them are there.

        Args:
            count: how many images; may be left out when `quota` says it.
            classes: names or numbers of classes, in equal shares; all of them if left out.
            quota: exact counts by class, instead of `count` and `classes`.
            generator: id of a generator, or several for a strategy that mixes.
            strategy: its name; `random` if left out.
            params: parameters of the strategy, by name. Any other keyword is one of them: `sigma=1.2`, `steps=3`.
            seed: same request and seed, same images; a random one if left out, which the batch tells.
            snapshot: the version that the strategy aims at, or `latest`.
            channel: where that snapshot was published.
            teacher: the classifier that filters, verifies or gives soft labels: a channel, or channel@version.
            deadline: seconds until the last image must be minted.

        Raises:
            InvalidOrder: no worker could fill it; the message names the value and what would be possible.
            GeneratorNotFound, SnapshotNotFound: something named is not there.
            Unauthorised, Forbidden: the token does not allow it.
            Busy, NoWorkers, Unreachable: still so after all retries. `OrderFailed`: it cannot be done.
            IntegrityError: what came is damaged, or of another version of Nonesuch.
        """
        return (yield from self.stream(count, **asked).all())

    def again(self, recipe: str) -> Op[Batch]:
        """The same images as those of a batch whose `recipe` this is.

        Raises `RecipeNotFound` for what is no recipe, `RecipeGone` when its generator or snapshot is gone, and what
        `mint` raises.
        """
        ask = Ask(
            "GET",
            f"/v1/batches/{quote(recipe, safe='')}",
            headers={"Accept": ARROW, "Accept-Encoding": "identity"},
            patience_s=DEADLINE_S,
        )
        return (yield from Flow(ask, self.attempts()).all())

    def export(
        self,
        path: str | Path,
        count: int | None = None,
        *,
        format: str | None = None,
        on_bytes: OnBytes | None = None,
        **asked: Unpack[Asked],
    ) -> Op[Exported]:
        """Mint images into a file. Blocks until it is complete; it appears then, and is never a part of one.

        Takes no memory for the images. An answer that is cut off is asked for again from its beginning.

        Args:
            path: the file to write. Its ending means the format: .arrows, .parquet (for `datasets`), .npz, .tar (for
                `webdataset`), .zip, .png or .json.
            count: how many images; so are the other keywords those of `mint`.
            format: its name, for a file with another ending.
            on_bytes: told how many bytes are written, and how many there will be (None where nobody knows).

        Raises:
            InvalidValue: the file exists, or its ending means nothing.
            NotAcceptable: the gateway writes no such format.
            OSError: it cannot be written.
            And what `mint` raises.
        """
        path = Path(path)
        ask = mint_ask(count, asked, accept="*/*", format=format or format_of(path, WRITTEN))
        return (yield from written(ask, path, self.attempts(), on_bytes or untold))
