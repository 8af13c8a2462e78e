"""What Redis' errors mean to whoever asked: one table for both links, and for every command.

A refusal is final where it is known to be so: somebody must mend something first (`Refused`). Whatever else Redis says
passes, as a Redis that is away does (`Unreachable`): it is waited for, and its text says what to do if it does not
pass. Only a plain ERR that is not in the table says that the call itself is wrong, which is a bug of ours.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis.exceptions import AuthenticationError, InvalidResponse, MaxConnectionsError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from nonesuch.config import RedisSettings
from nonesuch.errors import Busy, NonesuchError, Occupied, Refused, ServiceError, Unreachable

_TROUBLE = (RedisConnectionError, RedisTimeoutError, ResponseError, InvalidResponse, OSError)


class Refusal(NamedTuple):
    """An error that Redis answers with, and what it means."""

    says: str
    """A pattern that the error begins with, its code included."""
    error: type[ServiceError]
    means: str
    """What follows "Redis at URL"."""
    remedy: str


_ONE_REDIS = "Nonesuch needs one Redis with all keys: name one that is no Redis Cluster in NONESUCH_REDIS_URL"
_USERS = "If its users come from `nonesuch init`, run that again and restart Redis"
_PRIMARY = "Name the primary in NONESUCH_REDIS_URL"

REFUSALS = (
    # Known to be final: no waiting mends them.
    Refusal("NOPERM|.*can't run this command", Refused, "does not let us do this", _USERS),
    Refusal("WRONGTYPE", Refused, "has keys of another program", "Choose another NONESUCH_NAMESPACE or database"),
    Refusal(
        "ERR (DB index|invalid DB index)",
        Refused,
        "does not have this database",
        "Name one that is there (0 always is) at the end of NONESUCH_REDIS_URL, or raise `databases` in its settings",
    ),
    Refusal("ERR SELECT is not allowed in cluster|CROSSSLOT", Refused, "is a node of a Redis Cluster", _ONE_REDIS),
    Refusal("ERR .*(non local key|hash to the same slot)", Refused, "is a node of a Redis Cluster", _ONE_REDIS),
    Refusal("ERR unknown (sub)?command", Refused, "is not one that keeps data, or an old one", _PRIMARY),
    Refusal("NOPROTO", Refused, "is too old", "6.2 or newer is needed"),
    Refusal("DENIED", Refused, "only talks to its own machine", "Give it a password (`nonesuch init`)"),
    # Passing by themselves, and soon.
    Refusal("LOADING", Occupied, "is loading its data", "It answers when it is through"),
    Refusal(
        "BUSY ",
        Occupied,
        "is busy with somebody's script",
        "If it does not end, let its owner end it (SCRIPT KILL)",
    ),
    Refusal("TRYAGAIN", Occupied, "is moving keys between the nodes of a Redis Cluster", _ONE_REDIS),
    # Passing, if somebody looks after Redis.
    Refusal("OOM", Busy, "has no memory left (maxmemory)", "Use smaller rings, or give it more"),
    Refusal("READONLY", Unreachable, "is a read-only replica", f"{_PRIMARY}, or make this one it (REPLICAOF NO ONE)"),
    Refusal("MASTERDOWN", Unreachable, "is a replica that has lost its primary", _PRIMARY),
    Refusal(
        "MISCONF",
        Unreachable,
        "takes no writes, because it cannot save what it has",
        "See its log and the room on its disk; Nonesuch does not need it to save (CONFIG SET save '')",
    ),
    Refusal(
        "NOREPLICAS",
        Unreachable,
        "takes no writes, because it has too few replicas",
        "Start them, or let it do without (CONFIG SET min-replicas-to-write 0)",
    ),
    Refusal("CLUSTERDOWN|MOVED|ASK", Unreachable, "is a node of a Redis Cluster", _ONE_REDIS),
)
"""The first that fits counts."""


@contextmanager
def translated(settings: RedisSettings) -> Iterator[None]:
    """Raises `Unreachable`, `Busy` and `Refused` in the place of Redis' own errors. Those that say what is wrong with
    a call itself pass.
    """
    try:
        yield
    except _TROUBLE as error:
        if (meant := _meaning(error, settings)) is None:
            raise
        raise meant from error


def _meaning(error: Exception, settings: RedisSettings) -> NonesuchError | None:
    where = f"Redis at {settings.safe_url}"
    said = _said(error)
    for refusal in REFUSALS:
        if re.match(refusal.says, said):
            return refusal.error(f"{where} {refusal.means}: {said}. {refusal.remedy}")
    if isinstance(error, MaxConnectionsError):
        return Busy(
            f"this process' own limit of connections to {where} is reached: use the link on fewer threads at once"
        )
    if isinstance(error, AuthenticationError):
        return Unreachable(
            f"{where} does not let us in: {said}. Give user and password with NONESUCH_REDIS_USERNAME and "
            "NONESUCH_REDIS_PASSWORD_FILE"
        )
    if isinstance(error, InvalidResponse):
        return Refused(f"what answers at {settings.safe_url} is no Redis: {said}. Mend NONESUCH_REDIS_URL")
    if isinstance(error, ResponseError):
        has_code = re.match(r"(?!ERR )[A-Z]{3,}\b", said)
        return Unreachable(f"{where} refuses this now: {said}. See its log") if has_code else None
    return Unreachable(
        f"no answer from {where}: {said}. Is it running? Set NONESUCH_REDIS_URL, "
        "or start everything on this machine with `nonesuch up`"
    )


def _said(error: Exception) -> str:
    """The first sentence of what Redis said, its code in front; of what a script was refused, not of the script."""
    text, code = str(error), getattr(error, "status_code", None)
    if code is None and not isinstance(error, ResponseError):  # of a connection, not of Redis
        return text.rstrip(".")
    if code and not text.startswith(f"{code} "):
        text = f"{code} {text}"
    if inner := re.match(r"ERR Error running script.*: -?(?=[A-Z]{3,} )", text):  # Redis 6
        text = text[inner.end() :]
    return re.split(r"\. |\.$|\.? script: ", text, maxsplit=1)[0]
