"""Plug-ins: entry points by group and name.

Groups: `nonesuch.generators`, `nonesuch.strategies`, `nonesuch.classifiers`, `nonesuch.rankings`. Nothing is imported
until it is asked for.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from nonesuch.errors import InvalidValue


def names(group: str) -> tuple[str, ...]:
    """What is registered in a group, sorted."""
    return tuple(sorted(entry_points(group=group).names))


def plugin(group: str, name: str) -> Any:
    """The object that a plug-in's entry point names.

    Raises:
        InvalidValue: nothing of that name is registered (says what is), or two packages registered different things.
    """
    found: set[EntryPoint] = set(entry_points(group=group, name=name))
    if not found:
        raise InvalidValue(
            f"nothing named {name!r} is registered in the entry-point group {group!r}; registered: "
            f"{', '.join(names(group)) or 'nothing'}. Install the package that brings it"
        )
    if len({e.value for e in found}) > 1:
        raise InvalidValue(
            f"{name!r} is registered more than once in the entry-point group {group!r}: "
            f"{', '.join(sorted(e.value for e in found))}. Uninstall all but one"
        )
    return found.pop().load()
