"""Files that are whole or not there, in a folder that one run has to itself."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nonesuch.errors import InvalidValue


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; at the end it takes the place of `path` in one step, or is removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by `data`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, document: object) -> None:
    """Replace a file by a JSON document that people can read, in UTF-8."""
    write_atomically(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def write_secret(path: Path, text: str) -> None:
    """Replace a file by `text`, UTF-8, which nobody but its owner can read at any moment."""
    with replacing(path) as temporary:
        temporary.unlink(missing_ok=True)  # of a process that was killed, perhaps with other rights
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode())


def user_folder(variable: str, default: str, env: Mapping[str, str] = os.environ) -> Path:
    """A base folder of the XDG specification; it need not exist.

    Args:
        variable: what names it, as `XDG_DATA_HOME`.
        default: where it is otherwise, below the home folder.
    """
    folder = Path(env.get(variable) or "")
    return folder if folder.is_absolute() else Path.home() / default  # the specification has relative paths ignored


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made if need be, to this process. Raises `InvalidValue` when another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel unlocks it when the process ends
        except BlockingIOError:
            raise InvalidValue(f"another run is writing to {folder}: wait for it, or choose another `out`") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or which files a folder has. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
