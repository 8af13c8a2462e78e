"""The tree of errors is as it is drawn."""

import inspect
import re

from nonesuch import errors
from nonesuch.errors import NonesuchError


def drawn() -> dict[str, str]:
    """Each error in the drawing, and its parent there."""
    parents: dict[str, str] = {}
    path = ["NonesuchError"]
    for branch, name in re.findall(r"^    ((?:│   |    )*[├└]── )(\w+)", errors.__doc__ or "", re.MULTILINE):
        del path[len(branch) // 4 :]
        parents[name] = path[-1]
        path.append(name)
    return parents


def test_the_drawing_is_the_tree() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NonesuchError)]
    tree = {kind.__name__: kind.__bases__[0].__name__ for kind in classes if kind is not NonesuchError}
    assert drawn() == tree
