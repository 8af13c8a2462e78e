"""What a token may use: requests in a minute and images in a day, counted in Redis, so all gateways count together.

Images count when an order for them is placed, also when a recipe is minted again, and are given back when it was
refused. A request that is repeated with its Idempotency-Key counts once. An answer says what is left of the limits that
it counted towards (draft-ietf-httpapi-ratelimit-headers-10):

    RateLimit-Policy: "requests";q=60;w=60, "images";q=10000;w=86400;qu="images"
    RateLimit: "requests";r=59;t=60, "images";r=9936;t=86400
"""

import logging
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from fastapi import Request

from nonesuch.effects import Op
from nonesuch.errors import InvalidOrder, NonesuchError, RateLimited
from nonesuch.link import AsyncLink, Keys, script
from nonesuch_gateway.access.tokens import Token

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meter:
    """One limit of a token: at most `limit` in any `window_s`."""

    name: str
    limit: int
    window_s: int

    @property
    def policy(self) -> str:
        """The meter as an item of RateLimit-Policy."""
        unit = "" if self.name == "requests" else f';qu="{self.name}"'
        return f'"{self.name}";q={self.limit};w={self.window_s}{unit}'


@dataclass(frozen=True)
class Spent:
    """What came of taking from a meter."""

    meter: Meter
    taken: bool
    left: int
    full_in_s: float
    """Seconds until nothing of the meter is used any more, if nothing more is taken."""
    fits_in_s: float | None
    """Seconds until the amount fits; None if it is more than the limit."""
    part: str
    """The part of the window that the amount was taken from, to be given back there."""

    @property
    def state(self) -> str:
        """What is left of the meter, as an item of RateLimit."""
        return f'"{self.meter.name}";r={self.left};t={math.ceil(self.full_in_s)}'


def spend(keys: Keys, token_id: str, meter: Meter, amount: int) -> Op[Spent]:
    """Take from a meter, or nothing if it is too much."""
    taken, left, full, fits, part = yield script(
        "spend", keys, token_id, meter.name, amount, meter.limit, meter.window_s * 1000, ""
    )
    return Spent(meter, bool(taken), left, full / 1000, None if fits < 0 else fits / 1000, part.decode())


def give_back(keys: Keys, token_id: str, spent: Spent, amount: int) -> Op[None]:
    """Undo `spend`, unless it does not count any more."""
    meter = spent.meter
    yield script("spend", keys, token_id, meter.name, -amount, meter.limit, meter.window_s * 1000, spent.part)


def rate_limit_headers(spent: Iterable[Spent]) -> dict[str, str]:
    """The headers RateLimit-Policy and RateLimit; neither if there is no limit."""
    found = list(spent)
    if not found:
        return {}
    return {
        "RateLimit-Policy": ", ".join(each.meter.policy for each in found),
        "RateLimit": ", ".join(each.state for each in found),
    }


class Limits:
    """Counts what tokens use. A token without limits costs no way to Redis."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link

    async def count_request(self, request: Request, token: Token) -> None:
        """Count a request of a token. Raises `RateLimited`."""
        if token.requests_per_minute is None:
            return
        meter = Meter("requests", token.requests_per_minute, 60)
        spent = await self._spend(request, token, meter, 1)
        if not spent.taken:
            raise RateLimited(
                f"token {token.id} may make {meter.limit} requests a minute and has made them: wait "
                f"{math.ceil(spent.fits_in_s or 0)} s",
                retry_after_s=spent.fits_in_s,
            )

    @asynccontextmanager
    async def images(self, request: Request, token: Token | None, count: int) -> AsyncIterator[None]:
        """Count images while they are ordered; they are given back if that fails.

        Raises `RateLimited`, and `InvalidOrder` when they are more than the token may ever have in a day.
        """
        if token is None or token.images_per_day is None:
            yield
            return
        meter = Meter("images", token.images_per_day, 86_400)
        spent = await self._spend(request, token, meter, count)
        if spent.fits_in_s is None:
            raise InvalidOrder(
                f"{count} images are more than the {meter.limit} a day that token {token.id} may order: ask for fewer",
                field="count",
            )
        if not spent.taken:
            raise RateLimited(
                f"token {token.id} may order {meter.limit} images a day, of which {spent.left} are left, and {count} "
                f"were asked for: ask for fewer, or wait {math.ceil(spent.fits_in_s)} s",
                retry_after_s=spent.fits_in_s,
            )
        try:
            yield
        except Exception:
            await self._give_back(request, token, spent, count)
            raise

    async def _spend(self, request: Request, token: Token, meter: Meter, amount: int) -> Spent:
        spent = await self._link.run(spend(self._link.keys, token.id, meter, amount))
        request.state.limits[meter.name] = spent
        return spent

    async def _give_back(self, request: Request, token: Token, spent: Spent, amount: int) -> None:
        request.state.limits[spent.meter.name] = replace(spent, left=spent.left + amount)
        try:
            await self._link.run(give_back(self._link.keys, token.id, spent, amount))
        except NonesuchError as error:
            log.warning("%d images of token %s were counted and not made: %s", amount, token.id, error)
