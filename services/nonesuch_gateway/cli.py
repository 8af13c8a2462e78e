"""`nonesuch gateway`: serve HTTP until Ctrl-C."""

import os
from typing import Annotated

import typer

from nonesuch.host.process import ensure_cpu_settings


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if nothing says another.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 8000. 0 is any free.")] = None,
    redis: Annotated[str | None, typer.Option(help="URL of the Redis that the workers use.")] = None,
    tokens: Annotated[str | None, typer.Option(help="File of the tokens to ask for (`nonesuch token`).")] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Let other machines in without tokens, if there are none.")
    ] = False,
    tls_certificate: Annotated[str | None, typer.Option(help="File of its certificate (PEM), for HTTPS.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="File of the certificate's private key (PEM).")] = None,
    root_path: Annotated[str | None, typer.Option(help="Prefix that a proxy strips from paths, as /nonesuch.")] = None,
    trusted_proxies: Annotated[
        str | None, typer.Option(help="Addresses or networks of proxies whose X-Forwarded-Prefix counts, by commas.")
    ] = None,
    cors_origins: Annotated[
        str | None, typer.Option(help="Origins whose pages may read answers in a browser, by commas; * for any.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="text|json", help="Of the log; text on a terminal, json elsewhere.")
    ] = None,
) -> None:
    """Answer HTTP requests for images. Options go before NONESUCH_GATEWAY_* and NONESUCH_REDIS_URL."""
    ensure_cpu_settings()  # batches are large blocks too
    from nonesuch_gateway.server import listen, make_server, url_of
    from nonesuch_gateway.settings import GatewaySettings
    from nonesuch_gateway.telemetry.logs import configure

    options = {
        "NONESUCH_GATEWAY_HOST": host,
        "NONESUCH_GATEWAY_PORT": port,
        "NONESUCH_REDIS_URL": redis,
        "NONESUCH_GATEWAY_TOKENS": tokens,
        "NONESUCH_GATEWAY_ALLOW_ANONYMOUS": "1" if allow_anonymous else None,
        "NONESUCH_GATEWAY_TLS_CERTIFICATE": tls_certificate,
        "NONESUCH_GATEWAY_TLS_KEY": tls_key,
        "NONESUCH_GATEWAY_ROOT_PATH": root_path,
        "NONESUCH_GATEWAY_TRUSTED_PROXIES": trusted_proxies,
        "NONESUCH_GATEWAY_CORS_ORIGINS": cors_origins,
        "NONESUCH_GATEWAY_LOG_FORMAT": log_format,
    }
    given = {name: str(value) for name, value in options.items() if value is not None}
    settings = GatewaySettings.from_env({**os.environ, **given})
    configure(settings.log_format)
    with listen(settings) as listener:
        server = make_server(settings)
        url = url_of(listener, tls=settings.tls_key is not None)
        typer.echo(f"gateway: {url} (Redis {settings.redis.safe_url}; Ctrl-C stops)")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo("gateway: stopped")
