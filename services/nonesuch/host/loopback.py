"""This machine, by its own addresses. What goes there never goes through a proxy, whatever the environment says."""

import ipaddress
import ssl
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, build_opener


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is of this machine by definition. Asks no name server."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def direct(context: ssl.SSLContext | None = None) -> OpenerDirector:
    """What opens URLs without any proxy."""
    return build_opener(ProxyHandler({}), HTTPSHandler(context=context))
