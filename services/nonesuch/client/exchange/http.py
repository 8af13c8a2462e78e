"""What both clients tell httpx, and what its errors mean."""

from typing import Any

import httpx

from nonesuch.client.exchange.settings import ClientSettings
from nonesuch.client.exchange.wire import Ask
from nonesuch.errors import Unreachable
from nonesuch.host.release import VERSION


def options(settings: ClientSettings) -> dict[str, Any]:
    """The keywords with which either httpx client is made."""
    headers = {"User-Agent": f"nonesuch/{VERSION}"}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    return {"headers": headers, "timeout": settings.timeout_s}


def request(http: httpx.Client | httpx.AsyncClient, settings: ClientSettings, ask: Ask) -> httpx.Request:
    """The httpx request that an `Ask` stands for, made by the client that will send it."""
    return http.build_request(
        ask.method,
        settings.url + ask.path,
        params=ask.params or None,
        headers=dict(ask.headers),
        content=ask.content,
        timeout=httpx.Timeout(settings.timeout_s, read=settings.timeout_s + ask.patience_s),
    )


def unreachable(error: httpx.HTTPError, url: str, *, begun: bool) -> Unreachable:
    """The error of a connection that failed, before or after its answer had begun."""
    why = str(error) or type(error).__name__
    if begun:
        return Unreachable(f"the answer of {url} was cut off: {why}. The log of the gateway has the reason")
    return Unreachable(f"no answer from {url}: {why}. Is the gateway running? Set NONESUCH_URL, or give its URL")
