"""The places of what a private Ray needs: sockets in the folder for temporary files, a token in the home folder."""

import os
import secrets
from collections.abc import MutableMapping
from pathlib import Path

from nonesuch.host.sockets import socket_folder

SOCKET_BYTES = 70
"""How many bytes Ray's names of sockets have below the folder for temporary files."""


def private_ray(env: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Options of `ray.init` for a cluster that ends with this process: the folder that RAY_TMPDIR names, or else one in
    which its sockets fit. Where no token can be written into the home folder, the cluster gets one by `env`.

    Raises `InvalidValue` when there is no such folder.
    """
    home = Path(env.get("HOME") or "/")
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & env.keys() and not _is_usable(home / ".ray"):
        env["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {"_temp_dir": env.get("RAY_TMPDIR") or str(socket_folder(SOCKET_BYTES, plain=True) / "ray")}


def _is_usable(folder: Path) -> bool:
    """Whether Ray finds its token in a folder, or can write it there."""
    if (folder / "auth_token").is_file():
        return os.access(folder / "auth_token", os.R_OK)
    return os.access(folder if folder.exists() else folder.parent, os.W_OK | os.X_OK)
