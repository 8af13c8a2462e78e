"""The application behind a socket."""

import asyncio
import ipaddress
import math
import resource
import socket
import ssl
import sys
import time
from functools import partial

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from nonesuch.errors import InvalidValue
from nonesuch_gateway.app import create_app, make_crowd
from nonesuch_gateway.http.arrivals import Arrivals
from nonesuch_gateway.http.crowd import Crowd
from nonesuch_gateway.http.shutdown import Gate
from nonesuch_gateway.settings import GatewaySettings

BACKLOG = 1024
OTHER_FILES = 256
"""Open files of a gateway that are no connections of its limits: formats that need a file, tokens, modules."""
REFUSED_AT_ONCE = 4096
"""How many connections that are too many may wait to be told so, where this process may open as many files."""


def listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket at the settings' host and port. Raises `InvalidValue` when it cannot be had, and when other
    machines could reach a gateway that asks nobody for a token.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        if settings.tokens is None and not settings.allow_anonymous and not _is_loopback(settings.host):
            raise InvalidValue(
                f"without tokens nobody is asked who they are, so the gateway does not listen on {settings.host}, "
                "where other machines reach it: make a token with `nonesuch token create` and name its file with "
                "--tokens or NONESUCH_GATEWAY_TOKENS, or give --allow-anonymous or NONESUCH_GATEWAY_ALLOW_ANONYMOUS=1",
                field="host",
            )
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidValue(
            f"cannot listen on {settings.host} port {settings.port}: {reason}. Stop what is listening there, or choose "
            "another with --host, --port or NONESUCH_GATEWAY_PORT (0 for any free one)",
            field="port",
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.stall_s * 1000))
    return listener


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches all of a host's addresses. Raises `OSError` for a name that has none."""
    found = socket.getaddrinfo(host, None) if host else []
    return bool(found) and all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)


class _Server(uvicorn.Server):
    """Stops as `http.shutdown` draws it. Closes at last even the connection of a client that does not read: the event
    loop could not end before it.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate, crowd: Crowd, settings: GatewaySettings) -> None:
        super().__init__(config)
        self._gate = gate
        self._crowd = crowd
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve as uvicorn does, by `Arrivals` that know of the crowd, with time limits for TLS."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        connection = partial(
            Arrivals,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            crowd=self._crowd,
            head_s=self._settings.head_s,
        )
        within = self._settings.head_s if self.config.ssl else None
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                connection,
                sock=listener,
                ssl=self.config.ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=within,
                ssl_shutdown_timeout=within,
            )
            for listener in sockets or ()
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end = time.monotonic() + self._settings.shutdown_s
        await self._gate.drain(
            at_least_s=self._settings.drain_s, at_most_s=self._settings.shutdown_s, hurry=lambda: self.force_exit
        )
        # For what clients have not read yet of answers that are sent.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(end - time.monotonic()))
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def make_server(settings: GatewaySettings) -> uvicorn.Server:
    """A server for `server.run(sockets=[listen(settings)])`, which blocks until SIGINT, SIGTERM or
    `server.should_exit`; open requests then have `shutdown_s` seconds to end. Raises `InvalidValue` for a certificate
    or a key that cannot be used, and for more connections than this process may have.
    """
    _check_certificate(settings)
    gate, crowd = Gate(), make_crowd(settings, _files_to_spare(settings))
    config = uvicorn.Config(
        create_app(settings, gate, crowd),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `http.proxies` reads the one that answers take
        lifespan="on",
        http=Arrivals,
        ws="none",
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    return _Server(config, gate, crowd, settings)


def _files_to_spare(settings: GatewaySettings) -> int:
    """Let this process open a file for each connection that the settings allow, and say how many more there may be,
    `REFUSED_AT_ONCE` at most."""
    needed = settings.max_connections + settings.redis_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = needed + REFUSED_AT_ONCE if hard == resource.RLIM_INFINITY else min(needed + REFUSED_AT_ONCE, hard)
    if may < needed:
        raise InvalidValue(
            f"{settings.max_connections} connections take {needed} open files and this process may have {hard}: lower "
            "NONESUCH_GATEWAY_MAX_CONNECTIONS or NONESUCH_GATEWAY_MAX_STREAMS, or raise `ulimit -n`",
            field="max_connections",
        )
    if soft != resource.RLIM_INFINITY and soft < may:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, hard))
    return may - needed


def _check_certificate(settings: GatewaySettings) -> None:
    """Find now what uvicorn would stumble over in a certificate or a key when it has begun to serve."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=lambda: "")  # it would ask for one
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidValue(
            f"no TLS with the certificate {settings.tls_certificate} and the key {settings.tls_key}: {reason}. Both "
            "must be PEM files that this user can read, belong together, and the key have no passphrase",
            field="tls_certificate",
        ) from None
