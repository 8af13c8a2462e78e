"""Bearer tokens: who may ask for what. Hashed at rest, in one JSON file that `nonesuch token` writes.

    nsk_<id>_<secret>     the id is public; the secret is 256 random bits, and only its sha256 is kept

A password needs a slow hash because it can be guessed. 256 random bits cannot, so one sha256 is enough and every
request can afford it.
"""

import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from nonesuch.config import explain
from nonesuch.errors import InvalidValue, Unauthorised
from nonesuch.host.files import write_secret
from nonesuch.host.writing import writing
from nonesuch.model import Frozen

Scope = Literal["mint", "snapshot", "admin"]
"""`mint`: batches and orders. `snapshot`: fetch and publish classifiers. `admin`: both, and what others placed."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

SECRET_BYTES = 32
LOCK_S = 5.0
"""How many seconds an edit waits for another one; each takes milliseconds."""

_SHAPE = re.compile(r"nsk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NOBODY = sha256(b"").hexdigest()
"""What the secret of an unknown id is compared with, so that it takes as long as a known one."""

log = logging.getLogger(__name__)


class Token(Frozen):
    """What is known of a token; not the token itself."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    label: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """The sha256 of the token's secret."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: AwareDatetime
    expires: AwareDatetime | None = None
    images_per_day: int | None = Field(default=None, ge=1, le=10**12)
    requests_per_minute: int | None = Field(default=None, ge=1, le=10**6)

    def allows(self, scope: Scope | None) -> bool:
        """Whether the token has a scope, or includes it; every token allows None."""
        return scope is None or scope in self.scopes or "admin" in self.scopes


class _Document(Frozen):
    """The file of tokens, as a document."""

    version: Literal[1] = 1
    tokens: tuple[Token, ...] = ()

    @model_validator(mode="after")
    def _ids_are_different(self) -> "_Document":
        if len({token.id for token in self.tokens}) < len(self.tokens):
            raise ValueError("two tokens have the same id: keep one of them")
        return self


def make_token(label: str, scopes: tuple[Scope, ...], **limits: object) -> tuple[Token, str]:
    """A new token and the text that its owner sends, which nobody can recover later. `limits` are fields of `Token`.

    Raises `InvalidValue` for a label, a scope or a limit that cannot be.
    """
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(SECRET_BYTES)
    given = {
        "id": token_id,
        "label": label,
        "sha256": sha256(secret.encode()).hexdigest(),
        "scopes": scopes,
        "created": datetime.now(UTC).replace(microsecond=0),
        **limits,
    }
    try:
        return Token.model_validate(given), f"nsk_{token_id}_{secret}"
    except ValidationError as error:
        raise InvalidValue(explain(error, "the token")) from None


def read_tokens(path: Path) -> dict[str, Token]:
    """The tokens of a file by their ids, in their order. Raises `InvalidValue` if it cannot be used."""
    try:
        document = _Document.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InvalidValue(f"there is no file of tokens at {path}: make it with `nonesuch token create`") from None
    except OSError as error:
        raise InvalidValue(f"the file of tokens {path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise InvalidValue(explain(error, f"the file of tokens {path}")) from None
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"the file of tokens {path} is not JSON: {error}") from None
    return {token.id: token for token in document.tokens}


@contextmanager
def editing(path: Path) -> Iterator[dict[str, Token]]:
    """The tokens of a file, which are written back at the end, unless there was an error; a new file if there is none.

    Readers see the old file or the new one. Blocks while another edit goes on. Raises what `read_tokens` raises, and
    `InvalidValue` when the other edit does not end in `LOCK_S`, and `NotWritable`.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_name(f".{path.name}.lock")):
        tokens = read_tokens(path) if path.exists() else {}
        yield tokens
        document = _Document(tokens=tuple(tokens.values()))
        write_secret(path, document.model_dump_json(indent=2, exclude_none=True) + "\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + LOCK_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise InvalidValue(f"another `nonesuch token` has {path} locked: try again when it ended") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


class Tokens:
    """The tokens of a file as they are now: a change of the file counts from the next request on."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises what `read_tokens` raises."""
        self._path = path
        self._seen = self._signature()
        self._tokens: Mapping[str, Token] = read_tokens(path)

    def check(self, text: str) -> Token:
        """The token that a caller sent. Raises `Unauthorised`, which does not say whether there is such an id."""
        shape = _SHAPE.fullmatch(text)
        token_id, secret = shape.groups() if shape else ("", "")
        token = self._current().get(token_id)
        expected = _NOBODY if token is None else token.sha256
        is_right = hmac.compare_digest(sha256(secret.encode()).hexdigest(), expected)
        if token is None or not is_right:
            raise Unauthorised("the token is not known here: it was mistyped, or it was revoked")
        if token.expires is not None and token.expires <= datetime.now(UTC):
            raise Unauthorised(f"the token expired at {token.expires:%Y-%m-%d %H:%M} UTC: ask for a new one")
        return token

    def _current(self) -> Mapping[str, Token]:
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            try:
                self._tokens = read_tokens(self._path)
            except InvalidValue as error:
                log.error("%s. The tokens of before are still accepted", error)
        return self._tokens

    def _signature(self) -> tuple[int, int, int] | None:
        """What differs when the file was written, or replaced by another; None while there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
