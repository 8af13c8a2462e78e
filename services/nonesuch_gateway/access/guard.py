"""Who is asking, and whether they may.

    request ──► Guard: whose token is it? ──► route ──► authorised: does it have the route's scope, and room? ──► answer
                  └── 401, nothing was read            └── 403, 429

Guard is middleware, so that nothing is read of what a stranger sends. Which scope a request needs depends on its
route, so that is asked by a dependency that every route has (`routes.deps`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nonesuch.errors import Forbidden, Unauthorised
from nonesuch_gateway.access import tokens
from nonesuch_gateway.access.limits import Spent, rate_limit_headers
from nonesuch_gateway.access.tokens import Token, Tokens
from nonesuch_gateway.http.problems import answer_error

PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"})
"""The paths that need no token: what load balancers and newcomers ask for."""

NEEDED: Mapping[tuple[str, str], tokens.Scope | None] = {
    ("POST", "/v1/batches"): "mint",
    ("GET", "/v1/batches/{recipe_id}"): "mint",
    ("POST", "/v1/orders"): "mint",
    ("GET", "/v1/orders/{order_id}"): "mint",
    ("DELETE", "/v1/orders/{order_id}"): "mint",
    ("GET", "/v1/orders/{order_id}/events"): "mint",
    ("GET", "/v1/orders/{order_id}/results"): "mint",
    ("GET", "/v1/snapshots"): "snapshot",
    ("PUT", "/v1/snapshots/{version}"): "snapshot",
    ("GET", "/v1/snapshots/latest"): "snapshot",
    ("GET", "/v1/snapshots/{version}"): "snapshot",
    ("GET", "/v1/generators"): None,
    ("GET", "/v1/generators/{generator_id}"): None,
    ("GET", "/v1/strategies"): None,
    ("GET", "/v1/acceptance"): None,
    ("GET", "/v1/stats"): None,
    ("GET", "/metrics"): "admin",
}
"""The scope of every route that is not public; None stands for any token. HEAD needs what GET needs. A route that is
forgotten here needs `admin`, and fails a test."""

BEARER = HTTPBearer(
    scheme_name="token", bearerFormat="nsk_<id>_<secret>", description="From `nonesuch token create`.", auto_error=False
)
"""What says in the OpenAPI document how to authenticate."""


@dataclass(frozen=True)
class Caller:
    """Who asks. `token` is None where the gateway has no tokens, and then everybody may do everything."""

    token: Token | None

    @property
    def id(self) -> str:
        """The id of the token; "anybody" if there is none."""
        return "anybody" if self.token is None else self.token.id

    def may(self, scope: tokens.Scope | None) -> bool:
        """Whether a scope is granted to the caller."""
        return self.token is None or self.token.allows(scope)

    @property
    def confined_to(self) -> str | None:
        """The owner whose orders the caller may see; None means everybody's."""
        return None if self.may("admin") else self.id

    def check(self, method: str, route: str) -> None:
        """Raises `Forbidden` if the caller may not make a request of a route, such as GET of /v1/orders/{order_id}."""
        needed = NEEDED.get(("GET" if method == "HEAD" else method, route), "admin")
        if not self.may(needed):
            assert self.token is not None and needed is not None
            raise Forbidden(
                f"this needs scope {needed!r} and token {self.token.id} has {', '.join(self.token.scopes)}: make one "
                f"that has it with `nonesuch token create --scope {needed}`",
                scope=needed,
            )


class Guard:
    """Lets no request in without a token, but to `PUBLIC`; adds to answers what is left of the token's limits."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            token = self._tokens.check(_bearer(Headers(scope=scope)))
        except Unauthorised as error:
            await (await answer_error(Request(scope), error))(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["token"] = token
        limits: dict[str, Spent] = {}  # by their meters, as they are counted
        state["limits"] = limits

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(rate_limit_headers(limits.values()))
            await send(message)

        await self._app(scope, receive, send_with_limits)


def _bearer(headers: Headers) -> str:
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not text:
        raise Unauthorised("send a token, as `Authorization: Bearer nsk_…`; `nonesuch token create` makes one")
    return text.strip()
