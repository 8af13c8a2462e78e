"""Idempotency-Key: a POST that a client repeats, because it does not know what became of it, happens once.

    first request ──► accepted: kept for an hour ──► again: the same recipe, or the same order
                  │                └── all images were sent: for two more minutes
                  └── refused: forgotten

What is kept is small: a digest of the request, and the recipe or order that came of it. The images of a recipe are
minted again, as their bytes are the same.
"""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

from starlette.exceptions import HTTPException

from nonesuch.effects import Op
from nonesuch.errors import Conflict, InvalidValue, NonesuchError
from nonesuch.link import AsyncLink, Call
from nonesuch_gateway.recipes.requests import MintRequest

KEPT_S = 3600
"""How many seconds an outcome is kept: clients that do not know it try again within minutes."""
SENT_S = 120
"""How many seconds an outcome is kept once all images were sent: nearly every client has them then. 10 requests a
second leave half a megabyte in Redis."""
MAX_KEY = 255
FIELD = "Idempotency-Key"
SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"}
"""JSON Schema of an Idempotency-Key."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Once:
    """One request that may have been made before. Without a key none was, and nothing is kept."""

    link: AsyncLink
    name: str | None
    """The Redis key of what is kept of the request; None: nothing is."""
    path: str

    @classmethod
    def of(cls, link: AsyncLink, path: str, caller_id: str, key: str | None) -> Self:
        """A caller's request for a path and query, with the key that it has, if any. Raises a problem of status 400."""
        if key is None:
            return cls(link, None, path)
        if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
            raise HTTPException(400, f"{FIELD} must be 1 to {MAX_KEY} printable ASCII characters: send a shorter one")
        return cls(link, link.keys.once(caller_id, sha256(key.encode()).hexdigest()[:32]), path)

    async def outcome(self, body: MintRequest) -> str | None:
        """What came of the same request before; None if it is new.

        Raises `InvalidValue` if the key stands for another request.
        """
        if self.name is None:
            return None
        found: bytes | None = await self.link.run(_read(self.name))
        if found is None:
            return None
        before, _, outcome = found.decode().partition(" ")
        if before != self._digest(body):
            raise InvalidValue(
                f"this {FIELD} was sent with another request before: give every request a key of its own", field=FIELD
            )
        return outcome

    @asynccontextmanager
    async def accepting(self, body: MintRequest, outcome: str | None) -> AsyncIterator[None]:
        """Keep what comes of a new request, unless accepting it fails. An outcome that has no name is not kept: the
        request's seed makes the same images.

        Raises `Conflict` when the same came at the same time, and `InvalidValue` for no name and no seed.
        """
        if self.name is None or (outcome is None and body.seed is not None):
            yield
            return
        if outcome is None:
            raise InvalidValue(
                f"the recipe is too long to be kept for an {FIELD}: give a seed, which makes the same images too",
                field=FIELD,
            )
        if not await self.link.run(_keep(self.name, f"{self._digest(body)} {outcome}")):
            raise in_progress()
        try:
            yield
        except Exception:
            await self._forget()
            raise

    async def sent(self) -> None:
        """All images were sent: keep what came of the request for `SENT_S` only."""
        if self.name is not None:
            try:
                await self.link.run(_expire(self.name))
            except NonesuchError as error:
                log.warning("an %s is kept for longer than it need be: %s", FIELD, error)

    def _digest(self, body: MintRequest) -> str:
        document = [self.path, body.model_dump(mode="json")]
        return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    async def _forget(self) -> None:
        assert self.name is not None
        try:
            await self.link.run(_drop(self.name))
        except NonesuchError as error:
            log.warning("an %s is kept for a request that failed: %s", FIELD, error)


def in_progress() -> Conflict:
    """The error of a request that came again too early, or too late."""
    return Conflict(
        f"a request with this {FIELD} is being answered, or what came of it is gone: try again in a moment, or "
        "send a new key"
    )


def _read(name: str) -> Op[bytes | None]:
    found: bytes | None = yield Call("GET", name)
    return found


def _keep(name: str, value: str) -> Op[bool]:
    return bool((yield Call("SET", name, value, "NX", "EX", KEPT_S)))


def _expire(name: str) -> Op[None]:
    yield Call("PEXPIRE", name, SENT_S * 1000)


def _drop(name: str) -> Op[None]:
    yield Call("DEL", name)
