"""Tickets complete in any order; readers want rows in index order."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from nonesuch.errors import InvalidValue

T = TypeVar("T")


class Sequencer(Generic[T]):
    """Holds what is ahead of its turn. It holds no more than its ring has slots, if each is released when emitted."""

    def __init__(self) -> None:
        self._next = 0
        self._ahead: dict[int, T] = {}

    def __len__(self) -> int:
        """How many items wait for their turn."""
        return len(self._ahead)

    def push(self, number: int, item: T) -> Iterator[T]:
        """Add item `number`; iterates over the items whose turn it is now. Raises `InvalidValue` for a repeat."""
        if number < self._next or number in self._ahead:
            raise InvalidValue(f"item {number} came twice")
        self._ahead[number] = item
        while self._next in self._ahead:
            self._next += 1
            yield self._ahead.pop(self._next - 1)
