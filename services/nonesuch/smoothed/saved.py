"""What a `SmoothedDataset` leaves and goes on from: tensors and plain values, which need no pickle to be read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from nonesuch.classifiers.published import Snapshot
from nonesuch.errors import InvalidValue
from nonesuch.smoothed.orders import DatasetOrders
from nonesuch.smoothed.resident import ResidentDataset
from nonesuch.snapshots import SnapshotHeader

FORMAT = 1
_COLUMNS = ("images", "labels", "births", "seeds", "indices", "snapshots")


@dataclass(frozen=True, eq=False)
class Saved:
    """A dataset at one moment."""

    epoch: int
    resident: ResidentDataset
    latest: Snapshot | None
    """The model last published."""
    aimed: Snapshot | None
    """The model that the pending images are aimed at."""
    pending: bool
    """Whether the next epoch's images were asked for."""

    def state(self, orders: DatasetOrders) -> dict[str, Any]:
        """The state of the dataset, as a copy of everything."""
        return {
            "format": FORMAT,
            "of": _identity(orders),
            "epoch": self.epoch,
            "pending": self.pending,
            "latest": _packed(self.latest),
            "aimed": _packed(self.aimed),
            **{name: getattr(self.resident, name).clone() for name in _COLUMNS},
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], orders: DatasetOrders, size: int) -> Self:
        """The dataset that a state describes. Raises `InvalidValue` for one of another dataset, or that is none."""
        if state.get("format") != FORMAT:
            raise InvalidValue(
                f"a state of format {state.get('format')!r} cannot be used, only of {FORMAT}: give what state_dict() "
                "returned",
                field="state",
            )
        wanted, found = _identity(orders) | {"size": size}, state["of"] | {"size": len(state["images"])}
        for name, value in wanted.items():
            if found[name] != value:
                raise InvalidValue(
                    f"the state is of a dataset with {name} {found[name]!r}, and this one has {value!r}: make it alike",
                    field="state",
                )
        return cls(
            epoch=state["epoch"],
            resident=ResidentDataset(**{name: state[name].clone() for name in _COLUMNS}),
            latest=_unpacked(state["latest"]),
            aimed=_unpacked(state["aimed"]),
            pending=state["pending"],
        )


def _identity(orders: DatasetOrders) -> dict[str, Any]:
    """What must be the same for the images to be of one dataset."""
    (info,) = orders.generators
    return {"generator": info.id, "weights": info.sha256, "classes": list(orders.classes)}


def _packed(snapshot: Snapshot | None) -> dict[str, str | Tensor] | None:
    if snapshot is None:
        return None
    payload = torch.frombuffer(bytearray(snapshot.payload), dtype=torch.uint8)
    return {"header": snapshot.header.model_dump_json(), "payload": payload}


def _unpacked(packed: Mapping[str, Any] | None) -> Snapshot | None:
    if packed is None:
        return None
    return Snapshot(SnapshotHeader.model_validate_json(packed["header"]), packed["payload"].numpy().tobytes())
