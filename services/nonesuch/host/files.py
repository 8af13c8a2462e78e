"""Files that are whole or not there, in a folder that one run has to itself.

Several processes may write to one path. Each has a temporary folder of its own, `.NAME.RANDOM.tmp` beside the path, and
holds the kernel's lock of it, which ends with the process, whatever ends that. So a temporary folder that nobody has
locked was left behind by a process that was killed, and the next writer to the same path removes it. A file system
without locks keeps such leftovers, as nobody can tell there whose they are. (A lock of the temporary file itself would
be lost to libraries that write by renaming, as safetensors does.)
"""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from nonesuch.errors import InvalidValue
from nonesuch.host.writing import writing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; at the end it takes the place of `path` in one step, or is removed after an error.

    Of several that write to one path the last one to end wins, whole. Raises `NotWritable` when there is no room or no
    right to, also for what is raised inside.
    """
    with writing(path), _temporary(path) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """`replacing` for a path that is not there yet, and is never overwritten.

    Raises `InvalidValue` at the beginning if it is there, or another process is writing it now, and at the end if it
    has come meanwhile; and `NotWritable` as `replacing` does.
    """
    refuse_taken(path)
    with writing(path), _temporary(path) as temporary:
        yield temporary
        sync(temporary)
        try:
            os.link(temporary, path)  # a rename would replace what is there
        except FileExistsError:
            raise InvalidValue(
                f"{path} was written by another process meanwhile, whose file it stays: choose another name, and try "
                "again",
                field="path",
            ) from None
        except OSError:  # a file system without links
            temporary.replace(path)
        sync(path.parent)


def refuse_taken(path: Path) -> None:
    """Raises `InvalidValue` if a file is there, or another process is writing it now."""
    if path.exists():
        raise InvalidValue(f"{path} exists: remove it, or choose another name", field="path")
    if _others(path):
        raise InvalidValue(f"another process is writing {path}: wait for it, or choose another name", field="path")


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A file to be, in a folder of this process beside `path` which is locked, and removed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _others(path)
    folder, descriptor = _own_folder(path)
    while descriptor is None:  # another one took it for a leftover before it was locked
        folder, descriptor = _own_folder(path)
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _own_folder(path: Path) -> tuple[Path, int | None]:
    folder = Path(tempfile.mkdtemp(".tmp", f".{path.name}.", path.parent))
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return folder, None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if folder.exists():
        return folder, descriptor
    os.close(descriptor)
    return folder, None


def _others(path: Path) -> bool:
    """Whether others are writing to `path` now. Removes what those have left that were killed."""
    busy, theirs = False, re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}\.tmp")
    for folder in path.parent.iterdir() if path.parent.is_dir() else ():
        if not theirs.fullmatch(folder.name):
            continue
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # it has just ended, or is another user's
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            busy = True
        except OSError:  # a file system without locks
            pass
        finally:
            os.close(descriptor)
    return busy


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by `data`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, document: object) -> None:
    """Replace a file by a JSON document that people can read, in UTF-8.

    Raises `InvalidValue` for a number that is not finite, which JSON has no word for; the file stays as it was.
    """
    write_atomically(path, (strict_json(document, str(path), indent=2) + "\n").encode())


def strict_json(document: object, name: str, indent: int | None = None) -> str:
    """A document as JSON that every program reads. Raises `InvalidValue`, which calls it by `name`, for a number that
    is not finite: json would write `NaN` or `Infinity`, which are no JSON."""
    try:
        return json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InvalidValue(f"{name} is no JSON: {error}; leave out what could not be measured") from error


def write_secret(path: Path, text: str) -> None:
    """Replace a file by `text`, UTF-8, which nobody but its owner can read at any moment."""
    with (
        replacing(path) as temporary,
        open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
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
    """Keep a folder, which is made if need be, to this process. Raises `InvalidValue` when another one has it, and
    `NotWritable` when it cannot be made.
    """
    with writing(folder):
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
