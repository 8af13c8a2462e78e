"""The application behind a socket."""

import asyncio
import socket

import uvicorn

from nonesuch.errors import InvalidValue
from nonesuch_gateway.app import create_app
from nonesuch_gateway.settings import GatewaySettings

BACKLOG = 1024


def listen(settings: GatewaySettings) -> socket.socket:
    """A listening socket at the settings' host and port. Raises `InvalidValue` when it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
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


class _Server(uvicorn.Server):
    """Closes at last even the connection of a client that does not read: the event loop could not end before it."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(settings: GatewaySettings) -> uvicorn.Server:
    """A server for `server.run(sockets=[listen(settings)])`, which blocks until SIGINT, SIGTERM or
    `server.should_exit`; open streams then have `shutdown_s` seconds to finish.
    """
    return _Server(
        uvicorn.Config(
            create_app(settings),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_s,
            lifespan="on",
            ws="none",
        )
    )
