"""What both clients tell httpx, and what its errors mean."""

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from nonesuch.client.exchange.settings import ClientSettings
from nonesuch.client.exchange.wire import Ask
from nonesuch.effects import T
from nonesuch.errors import InvalidValue, Unreachable
from nonesuch.host.loopback import is_loopback
from nonesuch.host.release import VERSION

PROXIES = ("all_proxy", "http_proxy", "https_proxy", "no_proxy")
"""The variables that httpx reads, in small letters; it takes capitals too."""


def options(settings: ClientSettings) -> dict[str, Any]:
    """The keywords with which either httpx client is made."""
    headers = {"User-Agent": f"nonesuch/{VERSION}"}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    return {"headers": headers, "timeout": settings.timeout_s}


def connected(make: Callable[[], T]) -> T:
    """The httpx client that `make` makes. Raises `InvalidValue` for proxies in the environment that it cannot use."""
    try:
        return make()
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        found = sorted(name for name in os.environ if name.lower() in PROXIES)
        if not found:
            raise
        raise InvalidValue(  # without the values, which may hold a password
            f"the proxy of the environment cannot be used ({', '.join(found)}): correct these variables or unset them. "
            "SOCKS needs http://, https:// or socks5:// there, and pip install 'httpx[socks]'"
        ) from error


def is_here(settings: ClientSettings) -> bool:
    """Whether the gateway is on this machine, so that no proxy is asked."""
    return is_loopback(urlsplit(settings.url).hostname or "")


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
