"""The calls that publish classifiers, and fetch them."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from nonesuch.classifiers.published import Snapshot
from nonesuch.client.calls import publishing
from nonesuch.client.calls.base import parsed
from nonesuch.client.calls.catalogue import CatalogueCalls
from nonesuch.client.exchange.answers import whole
from nonesuch.client.exchange.wire import Ask, Work
from nonesuch.effects import Op
from nonesuch.errors import Conflict, GeneratorNotFound, IntegrityError, InvalidValue, SnapshotNotFound
from nonesuch.ledger import UNKNOWN, Ledger
from nonesuch.offers import GeneratorInfo
from nonesuch.snapshots import SnapshotHeader

if TYPE_CHECKING:
    from torch import Tensor, nn

RACES = 5
"""How often a version that somebody else was faster to publish is raised."""


class _Snapshots(BaseModel):
    snapshots: tuple[SnapshotHeader, ...] = Field(description="Oldest first.")


class SnapshotCalls(CatalogueCalls):
    """The calls for classifiers that strategies aim at."""

    def snapshots(self, channel: str = "default") -> Op[tuple[SnapshotHeader, ...]]:
        """The snapshots of a channel that are kept, oldest first; empty while none was published."""
        return (yield from self.get(_Snapshots, "/v1/snapshots", {"channel": channel})).snapshots

    def latest_snapshot(self, channel: str = "default") -> Op[Snapshot]:
        """The classifier that was published last. Raises `SnapshotNotFound`, `IntegrityError`."""
        kept = yield from self.snapshots(channel)
        if not kept:
            raise SnapshotNotFound(f"no snapshot was published in channel {channel!r}: publish one first")
        header = kept[-1]
        ask = Ask("GET", f"/v1/snapshots/{header.version}", {"channel": channel}, {"Accept-Encoding": "identity"})
        _, payload = yield from whole(ask, self.attempts())
        if (yield Work(partial(_sha256, payload))) != header.sha256:
            raise IntegrityError(
                f"snapshot {header.version} of channel {channel!r} does not have the sha256 of its header: ask again"
            )
        return Snapshot(header, payload)

    def publish(
        self,
        model: "nn.Module | Mapping[str, Tensor] | str | Path",
        *,
        channel: str = "default",
        version: int | None = None,
        architecture: str | None = None,
        args: Mapping[str, int | float | str | bool] | None = None,
        generator: str | None = None,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        epoch: int = 0,
        step: int = 0,
        ledger: Ledger = UNKNOWN,
    ) -> Op[SnapshotHeader]:
        """Publish a classifier, for strategies to aim at and for teachers. Blocks until it is there.

        Args:
            model: a network, its state, or a classifier file (or the folder of the run that left it), of which
                everything below `version` is known.
            channel: where it is published.
            version: above the latest; the next one if left out.
            architecture: its name in the registry of classifiers; the registered one that has the very tensors of the
                network, with default arguments, if left out.
            args: of the architecture.
            generator: whose images and classes the network is for; the only one that is hosted, if left out.
            mean: of the network's inputs: (image / 255 - mean) / std, one value for each channel, or one for all.
            std: likewise.
            epoch, step: how far its training is.
            ledger: the real information that it learned from.

        Returns:
            What was published, with its version and sha256.

        Raises:
            InvalidSnapshot: the network does not fit its architecture, or has values that are not finite.
            InvalidValue: its architecture, or its generator, must be named.
            Conflict: the version is not above the latest.
            And what `generators` raises.
        """
        if isinstance(model, str | Path):
            payload: bytes = yield Work(partial(publishing.read_file, Path(model)))
        else:
            info = yield from self._shown(generator)
            described = publishing.Description(
                image_shape=info.image_shape,
                class_names=info.class_names,
                architecture=architecture,
                args=args or {},
                mean=_values(mean),
                std=_values(std),
                epoch=epoch,
                step=step,
                ledger=ledger,
            )
            payload = yield Work(partial(publishing.dumped, model, described))
        return (yield from self._put(payload, channel, version))

    def publish_payload(
        self, header: SnapshotHeader, payload: bytes, *, version: int | Literal["header"] | None = "header"
    ) -> Op[SnapshotHeader]:
        """Publish the tensors of a safetensors payload, as their header describes them.

        Args:
            header: what they are; its channel is where they go, and its sha256 is passed over.
            payload: safetensors, as `nonesuch.classifiers.snapshot.dump` makes it.
            version: another than the header's; None is the next one.

        Returns and raises: as `publish`.
        """
        file: bytes = yield Work(partial(publishing.with_header, header, payload))
        return (yield from self._put(file, header.channel, header.version if version == "header" else version))

    def _put(self, payload: bytes, channel: str, version: int | None) -> Op[SnapshotHeader]:
        digest = hashlib.sha256(payload).digest()
        for left in reversed(range(RACES)):
            ask = Ask(
                "PUT",
                f"/v1/snapshots/{(yield from self._next_version(channel)) if version is None else version}",
                {"channel": channel},
                {
                    "Content-Type": "application/x-safetensors",
                    "Content-Digest": f"sha-256=:{b64encode(digest).decode()}:",
                },
                payload,
            )
            try:
                _, document = yield from whole(ask, self.attempts())
            except Conflict:
                if version is not None or not left:
                    raise
                continue  # somebody else was faster
            return parsed(SnapshotHeader, document, ask.path)
        raise AssertionError

    def _next_version(self, channel: str) -> Op[int]:
        kept = yield from self.snapshots(channel)
        return kept[-1].version + 1 if kept else 0

    def _shown(self, generator: str | None) -> Op[GeneratorInfo]:
        """The generator whose images a network is for."""
        if generator is not None:
            return (yield from self.generator(generator))
        hosted = yield from self.generators()
        if not hosted:
            raise GeneratorNotFound("no generator is hosted, so nobody knows the network's classes: start a worker")
        kinds = {(info.image_shape, info.class_names) for info in hosted}
        if len(kinds) > 1:
            raise InvalidValue(
                f"several generators are hosted: name the one whose images the network is for, of "
                f"{', '.join(info.id for info in hosted)}",
                field="generator",
            )
        return hosted[0]


def _sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def _values(given: float | Sequence[float]) -> tuple[float, ...]:
    return (float(given),) if isinstance(given, int | float) else tuple(map(float, given))
