"""What the routes share, and the aliases by which they ask for it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from nonesuch.link.link import AsyncLink
from nonesuch_gateway.access.limits import Quotas
from nonesuch_gateway.access.tokens import Tokens
from nonesuch_gateway.http.shutdown import Gate
from nonesuch_gateway.http.uploads import Uploads
from nonesuch_gateway.replies.events import Watchers
from nonesuch_gateway.replies.opening import Replies
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_gateway.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Gateway:
    """One running gateway."""

    settings: GatewaySettings
    link: AsyncLink
    replies: Replies
    uploads: Uploads
    watchers: Watchers
    metrics: Metrics
    gate: Gate
    quotas: Quotas
    tokens: Tokens | None
    """None: everybody may do everything."""


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
