"""What keeps a file from being written, in one line with the remedy: whatever library it was that tried."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nonesuch.errors import NonesuchError, NotWritable

_NO_RIGHT = "choose another place, or change its rights"
_REMEDIES = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room within your quota, or choose another place",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or choose another place",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: "choose another place: this file system is for reading only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "choose another place: a part of the path is a file",
    errno.EISDIR: "choose another name: this one is a folder",
    errno.EEXIST: "choose another place: a part of the path is a file",
    errno.ENOENT: "choose another place: this one cannot be made",
    errno.EINVAL: "choose another place: this file system cannot hold such a file",
    errno.EIO: "the disk reports a fault: choose another place",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: the system has no file left to open",
}
"""What to do about an error of the system, by its number."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises `NotWritable`, which names `path`, in the place of what a library raises that cannot write it."""
    try:
        yield
    except NonesuchError:
        raise
    except Exception as error:
        number = _number_of(error)
        if number not in _REMEDIES:
            raise
        raise NotWritable(f"{path} cannot be written: {os.strerror(number)}; {_REMEDIES[number]}") from error


def remedy_of(error: OSError) -> str:
    """What to do about an error of the system that nobody foresaw; nothing if that is not known."""
    return _REMEDIES.get(error.errno or 0, "")


def _number_of(error: Exception) -> int:
    """The number that the system gave its error, wherever a library has put it; 0 if there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"\b(?:os error|errno:?) (\d+)\b", str(error), re.IGNORECASE)  # of Rust, and of C++
    return int(found[1]) if found else 0
