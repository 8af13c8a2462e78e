"""The secrets of a service, as files: who may read a folder of these knows what that process must know, and no more.

    redis/      users.acl                        Redis' users, with the sha256 of their passwords
    gateway/    redis.password  tokens.json      tokens.json has the sha256 of the tokens
    worker/     redis.password  ray.token        of the Ray head and its nodes
    trainer/    redis.password
    operator/   redis.password  gateway.token    for people: a look into Redis; all that the gateway offers
    prometheus/ gateway.token                    for the gateway's metrics
    grafana/    admin.password

What is there stays. `users.acl` alone is written anew when it is not what this version makes of the passwords.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from nonesuch.errors import InvalidValue, NotWritable
from nonesuch.host.files import write_secret
from nonesuch.host.writing import writing
from nonesuch.link.users import USERS, access_list
from nonesuch_gateway.access.tokens import editing, make_token

SECRET_BYTES = 32
SHORTEST = 32
"""The fewest characters of a password. Whoever sets one by hand takes a random one too."""

ACCESS_LIST = "redis/users.acl"
TOKENS = "gateway/tokens.json"
TOKEN_OWNERS = ("operator", "prometheus")
OTHERS = ("worker/ray.token", "grafana/admin.password")


def make_secrets(folder: Path) -> Iterator[str]:
    """Make the files that are missing; gives the name of each one that was written.

    Raises `NotWritable`, and `InvalidValue` for a file that cannot be read, or whose secret is too short to be one.
    """
    try:
        yield from _make(folder)
    except NotWritable as error:
        raise NotWritable(f"{error}. {_OWNER}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidValue(f"{getattr(error, 'filename', None) or folder}: {reason}. {_OWNER}") from None


_OWNER = (
    f"The folder and what is in it must belong to the user that runs `nonesuch init`, which is number {os.getuid()}"
)


def _make(folder: Path) -> Iterator[str]:
    passwords = {user: f"{user}/redis.password" for user in USERS}
    for name in (*passwords.values(), *OTHERS):
        if not (folder / name).exists():
            _write(folder / name, secrets.token_hex(SECRET_BYTES))
            yield name
    found = {name: _secret(folder / name) for name in (*passwords.values(), *OTHERS)}

    wanted = access_list({user: found[name] for user, name in passwords.items()})
    path = folder / ACCESS_LIST
    if not path.exists() or path.read_text() != wanted:
        _write(path, wanted)
        yield ACCESS_LIST

    if not (folder / TOKENS).exists():
        made = {}
        for owner in TOKEN_OWNERS:  # before their hashes: a token that nobody can read is of no use
            token, text = make_token(f"{owner}, made by nonesuch init", ("admin",))
            made[token.id] = token
            _write(folder / owner / "gateway.token", text + "\n")
            yield f"{owner}/gateway.token"
        with editing(folder / TOKENS) as tokens:
            tokens.update(made)
        yield TOKENS


def _secret(path: Path) -> str:
    secret = path.read_text().strip()
    if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InvalidValue(
            f"{path} is no secret: it must have {SHORTEST} printable characters at least and no space. Remove it, and "
            "`nonesuch init` makes one"
        )
    return secret


def _write(path: Path, text: str) -> None:
    """Write a secret, in folders that its owner alone can enter."""
    with writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(path, text)
