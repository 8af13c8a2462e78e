"""Places that sockets with a name can have: the kernel takes paths of 107 bytes at most."""

import os
import re
import tempfile
from pathlib import Path

from nonesuch.errors import InvalidValue

LONGEST = 107
"""How many bytes the path of a Unix socket has at most, on Linux."""


def socket_folder(room: int, *, plain: bool = False) -> Path:
    """The folder for temporary files, or another one if sockets do not fit there.

    Args:
        room: how many bytes come after the folder's path.
        plain: take a folder of letters, digits, `_`, `.` and `-` only.

    Raises:
        InvalidValue: there is none; the message names TMPDIR.
    """
    wanted = tempfile.gettempdir()
    for folder in (wanted, "/tmp", "/var/tmp", "/dev/shm"):
        fits = len(os.fsencode(folder)) + room <= LONGEST
        if fits and (not plain or re.fullmatch(r"[\w/.-]+", folder, re.ASCII)) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise InvalidValue(f"no socket can be made in {wanted}: set TMPDIR to a folder with a short, plain path")
