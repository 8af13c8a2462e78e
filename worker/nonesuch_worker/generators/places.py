"""The library: the folder of the generators that a user has added to those that ship with the package.

It is `$NONESUCH_LIBRARY`, or else `$XDG_DATA_HOME/nonesuch/generators`, or else `~/.local/share/nonesuch/generators`.
Each generator has a folder in it, whose name is the generator's (`nonesuch_worker.generators.card`). Folders whose name
starts with a dot are not looked at: a generator that is being added has one until it is whole.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nonesuch.errors import InvalidValue
from nonesuch.host.files import locked, sync, user_folder
from nonesuch.host.writing import writing
from nonesuch_worker.generators.card import CARD

VARIABLE = "NONESUCH_LIBRARY"


def library_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The folder of the library; it need not exist."""
    if given := env.get(VARIABLE):
        return Path(given).expanduser()
    return user_folder("XDG_DATA_HOME", ".local/share", env) / "nonesuch" / "generators"


def library() -> list[str]:
    """The names of the generators in the library."""
    cards = library_folder().glob(f"*/{CARD}")
    return sorted(card.parent.name for card in cards if not card.parent.name.startswith("."))


def find(name: str) -> Path | None:
    """The folder of a generator of the library, or None."""
    return library_folder() / name if name in library() else None


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new folder to fill; at the end it becomes `folder` in one step, or is removed after an error.

    What an earlier call left behind when its process was killed is removed first.

    Raises:
        InvalidValue: `folder` is there at the end, or another process is filling it now.
        NotWritable: its parent is not writable, or there is no room.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    with ExitStack() as stack:
        stack.enter_context(writing(folder))
        try:
            stack.enter_context(locked(temporary))  # the lock ends with the process, whatever ends it
        except InvalidValue:
            raise InvalidValue(f"another process is filling {temporary}: wait for it") from None
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        for left in temporary.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if folder.exists():  # an empty folder would be replaced without a word
            raise InvalidValue(f"{folder} is there already: choose another name, or remove it")
        temporary.rename(folder)
