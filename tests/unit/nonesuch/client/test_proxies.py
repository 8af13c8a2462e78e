"""Proxies of the environment, and gateways on this machine and elsewhere."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

import nonesuch
from nonesuch.errors import InvalidValue, NonesuchError
from nonesuch.host.loopback import direct, is_loopback

ENVIRONMENTS = (
    {"ALL_PROXY": "socks5://user:SECRET@127.0.0.1:9"},
    {"all_proxy": "socks://user:SECRET@127.0.0.1:9/", "no_proxy": "localhost,127.0.0.0/8,::1"},
    {"http_proxy": "http://user:SECRET@127.0.0.1:9"},
    {"HTTPS_PROXY": "nonsense://SECRET", "http_proxy": "SECRET@:::"},
)


class Empty(BaseHTTPRequestHandler):
    """Has no generators."""

    def do_GET(self) -> None:
        body = b'{"generators": []}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=ENVIRONMENTS, ids=lambda env: " ".join(env))
def proxied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    return dict(request.param)


def test_this_machine_is_reached_without_a_proxy(url: str, proxied: dict[str, str]) -> None:
    async def ask() -> object:
        async with nonesuch.AsyncClient(url, retries=0) as client:
            return await client.generators()

    with nonesuch.Client(url, retries=0) as client:
        assert list(client.generators()) == list(asyncio.run(ask())) == []
    with direct().open(f"{url}/readyz", timeout=5) as answer:
        assert answer.status == 200


def test_a_proxy_that_cannot_be_used_is_an_error_of_ours_without_its_password(proxied: dict[str, str]) -> None:
    with pytest.raises(NonesuchError) as raised, nonesuch.Client("http://gateway.invalid", retries=0) as client:
        client.generators()
    assert "SECRET" not in str(raised.value)
    if isinstance(raised.value, InvalidValue):
        assert min(proxied) in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_hosts_that_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "gateway", "10.0.0.1", "128.0.0.1", "::2", "localhost.example.org", "0.0.0.0"])
def test_hosts_that_may_be_another(host: str) -> None:
    assert not is_loopback(host)
