"""What must be the same for a run to go on from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from nonesuch_trainer.settings.config import TrainConfig

_OF_SERVICE: Any = {"late": True, "outage_s": True, "ring_slots": True, "teacher": True}
_CHANGEABLE: Any = {
    "run": True,
    "out": True,
    "device": True,
    "checkpoint_every": True,
    "evaluate": True,
    "adapt": True,
    "dataset": {**_OF_SERVICE, "folder": True, "minted": _OF_SERVICE, "real": {"folder"}},
}
"""Settings that may change between a checkpoint and its resumption: they do not decide what is learned. Where a teacher
lies does not; its weights do (`Facts.origins`)."""


@dataclass(frozen=True)
class RunIdentity:
    """A run's settings as its checkpoints carry them."""

    document: str
    """All settings of the run, as JSON."""

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        return cls(config.model_dump_json())

    def differences(self, other: "RunIdentity") -> list[str]:
        """Dotted names of the settings that keep one run from going on with a checkpoint of the other; sorted.

        Raises `ValueError` for a document that is none.
        """
        mine, theirs = (_deciding(one.document) for one in (self, other))
        return sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))


def _deciding(document: str) -> dict[str, Any]:
    """The settings that decide what is learned, by their dotted names."""
    return _flat(TrainConfig.model_validate_json(document).model_dump(mode="json", exclude=_CHANGEABLE))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
