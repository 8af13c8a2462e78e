"""`nonesuch gateway`: serve HTTP until Ctrl-C."""

import os
from typing import Annotated

import typer


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if nothing says another.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 8000. 0 is any free.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of the Redis that the workers use.")] = None,
) -> None:
    """Answer HTTP requests for images. Options go before NONESUCH_GATEWAY_* and NONESUCH_REDIS_URL."""
    from nonesuch_gateway.server import listen, make_server, url_of
    from nonesuch_gateway.settings import GatewaySettings

    options = {"NONESUCH_GATEWAY_HOST": host, "NONESUCH_GATEWAY_PORT": port, "NONESUCH_REDIS_URL": redis}
    given = {name: str(value) for name, value in options.items() if value is not None}
    settings = GatewaySettings.from_env({**os.environ, **given})
    with listen(settings) as listener:
        typer.echo(f"gateway: {url_of(listener)} (Redis {settings.redis.safe_url}; Ctrl-C stops)")
        try:
            make_server(settings).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo("gateway: stopped")
