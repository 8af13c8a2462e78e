"""The gateway by HTTPS."""

import ssl
from pathlib import Path

import httpx
import pytest

from nonesuch.errors import InvalidValue
from nonesuch_gateway.server import listen, make_server, url_of
from nonesuch_gateway.settings import GatewaySettings
from tests.helpers.certificates import make_certificate


def test_it_answers_by_tls_and_not_without(make_gateway, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    running = make_gateway(tls_certificate=certificate, tls_key=key)
    assert running.url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=certificate)
    assert httpx.get(running.url + "/healthz", verify=trusting).json() == {"status": "ok"}
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(running.url + "/healthz")
    with pytest.raises(httpx.TransportError):
        httpx.get(running.url.replace("https", "http") + "/healthz")


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    _, stranger = make_certificate(tmp_path, "stranger")
    with pytest.raises(InvalidValue, match="tls_key is missing"):
        GatewaySettings.from_env({"NONESUCH_GATEWAY_TLS_CERTIFICATE": str(certificate)})
    for wrong in (stranger, certificate, tmp_path / "nowhere"):
        with pytest.raises(InvalidValue, match=r"no TLS with the certificate .*belong together"):
            make_server(GatewaySettings(tls_certificate=certificate, tls_key=wrong))
    make_server(GatewaySettings(tls_certificate=certificate, tls_key=key))


def test_the_url_says_https() -> None:
    with listen(GatewaySettings(port=0)) as listener:
        assert url_of(listener, tls=True).startswith("https://127.0.0.1:")
