"""What every call needs."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from nonesuch.client.exchange.answers import whole
from nonesuch.client.exchange.retries import Retries
from nonesuch.client.exchange.wire import Ask
from nonesuch.effects import Op
from nonesuch.errors import IntegrityError
from nonesuch.host.release import VERSION

M = TypeVar("M", bound=BaseModel)


class BaseCalls:
    """What the calls of one client have in common. `retries` is how often each is tried again."""

    def __init__(self, *, retries: int) -> None:
        self._limit = retries

    def attempts(self) -> Retries:
        """The attempts of one call."""
        return Retries(self._limit)

    def get(self, model: type[M], path: str, params: Mapping[str, str] | None = None) -> Op[M]:
        """A document of the gateway. Raises what it answers, and what `parsed` raises."""
        _, document = yield from whole(Ask("GET", path, params or {}), self.attempts())
        return parsed(model, document, path)


def parsed(model: type[M], document: bytes, path: str) -> M:
    """A document that `path` answered with. Raises `IntegrityError` for one of another version."""
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise IntegrityError(
            f"the answer to {path} is not what Nonesuch {VERSION} knows "
            f"({'.'.join(map(str, first['loc']))}: {first['msg']}): install the version that the gateway has"
        ) from None
