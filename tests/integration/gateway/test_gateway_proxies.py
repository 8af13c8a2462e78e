"""Behind a proxy that strips a prefix, whatever an answer names is there; and pages of other origins, if let in."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from nonesuch.client import Client
from nonesuch.errors import InvalidValue
from nonesuch_gateway.app import create_app
from nonesuch_gateway.settings import GatewaySettings

PREFIX = "/team-1/nonesuch"
LOCAL = "127.0.0.0/8"


@dataclass(frozen=True)
class Proxy(httpx.BaseTransport):
    """Serves a gateway below the prefix and nothing else, as nginx does with `location /team-1/nonesuch/`."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if not path.startswith(PREFIX + "/"):
            return httpx.Response(404, text="the proxy knows nothing there")
        url = httpx.URL(self.url).copy_with(raw_path=path.removeprefix(PREFIX).encode())
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        with httpx.Client(timeout=20) as onwards:
            passed = onwards.request(request.method, url, headers=[*headers, *self.headers], content=request.read())
        kept = {k: v for k, v in passed.headers.items() if k not in ("content-length", "content-encoding")}
        return httpx.Response(passed.status_code, headers=kept, content=passed.content)


@pytest.fixture(params=["setting", "header", "header before the setting"])
def proxied(request: pytest.FixtureRequest, make_gateway, workers) -> Iterator[httpx.Client]:
    workers()
    settings = {
        "setting": {"root_path": PREFIX},
        "header": {"trusted_proxies": LOCAL},
        "header before the setting": {"root_path": "/elsewhere", "trusted_proxies": f"10.0.0.0/8, {LOCAL}"},
    }[request.param]
    headers = () if request.param == "setting" else (("X-Forwarded-Prefix", PREFIX + "/"),)
    with httpx.Client(transport=Proxy(make_gateway(**settings).url, headers), base_url="http://proxy") as client:
        yield client


def test_whatever_an_answer_names_is_there(proxied: httpx.Client) -> None:
    batch = proxied.post(f"{PREFIX}/v1/batches", json={"count": 3, "seed": 1})
    again = batch.headers["Content-Location"]
    assert again.startswith(PREFIX + "/v1/") and proxied.get(again).content == batch.content
    assert proxied.get(again).headers["Content-Location"] == again

    order = proxied.post(f"{PREFIX}/v1/orders", json={"count": 3, "seed": 1})
    assert order.headers["Location"] == order.json()["links"]["self"]
    for name in ("self", "results"):
        assert proxied.get(order.json()["links"][name]).status_code == 200, name

    for page in ("/docs", "/redoc"):
        (named,) = set(re.findall(r"[\"']([^\"']*openapi\.json)[\"']", proxied.get(PREFIX + page).text))
        document = proxied.get(named)
        assert document.status_code == 200 and document.json()["servers"] == [{"url": PREFIX}]
    lost = proxied.get(f"{PREFIX}/nowhere")
    assert lost.status_code == 404 and f"{PREFIX}/docs lists" in lost.json()["detail"]
    assert proxied.put(f"{PREFIX}/v1/generators").headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/evil"}])
@pytest.mark.parametrize("trusted", ["", "10.1.2.3, fd00::/8"])
def test_nobody_else_s_header_is_read(make_gateway, headers: dict[str, str], trusted: str) -> None:
    url = make_gateway(trusted_proxies=trusted).url
    assert "servers" not in httpx.get(f"{url}/openapi.json", headers=headers).json()


@pytest.mark.parametrize(
    "given", ["evil", "//evil.example", '/a"b', "/a'b", "/<script>", "/../x", "/v1", "/docs/x", "/" + "a" * 300, "/a b"]
)
def test_what_is_no_prefix_is_passed_over(make_gateway, given: str) -> None:
    url = make_gateway(trusted_proxies=LOCAL).url
    assert "servers" not in httpx.get(f"{url}/openapi.json", headers={"X-Forwarded-Prefix": given}).json()


def test_two_prefixes_are_none(make_gateway) -> None:
    url = make_gateway(trusted_proxies=LOCAL).url
    both = [("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")]
    assert "servers" not in httpx.get(f"{url}/openapi.json", headers=both).json()


def test_the_client_works_below_a_prefix(make_gateway, workers) -> None:
    """It names its paths below the URL that it was given."""
    workers()
    url = make_gateway(root_path=PREFIX).url
    with Client(url) as beside, Client(f"http://proxy{PREFIX}", transport=Proxy(url)) as below:
        assert np.array_equal(below.mint(count=3, seed=1).images, beside.mint(count=3, seed=1).images)


@pytest.mark.parametrize("root", ["/v1", "/docs", "/healthz/x", "/metrics/"])
def test_a_prefix_that_is_the_gateway_s_own_is_refused(root: str) -> None:
    with pytest.raises(InvalidValue, match="begins like the gateway's own paths"):
        create_app(GatewaySettings(root_path=root))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ROOT_PATH", "nonesuch", "no prefix of paths"),
        ("ROOT_PATH", "/a/../b", "no prefix of paths"),
        ("TRUSTED_PROXIES", "127.0.0.1,proxy", "TRUSTED_PROXIES"),
        ("CORS_ORIGINS", "example.org", "'example.org' is no origin"),
        ("CORS_ORIGINS", "https://example.org/", "no origin"),
        ("CORS_ORIGINS", "*, https://Example.org", "no origin"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        GatewaySettings.from_env({f"NONESUCH_GATEWAY_{name}": value})


def test_lists_are_separated_by_commas() -> None:
    settings = GatewaySettings.from_env(
        {
            "NONESUCH_GATEWAY_TRUSTED_PROXIES": "10.0.0.1, ::1",
            "NONESUCH_GATEWAY_CORS_ORIGINS": "https://a:1,http://[::1]",
        }
    )
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.1/32", "::1/128"]
    assert settings.cors_origins == ("https://a:1", "http://[::1]")
    assert GatewaySettings.from_env({"NONESUCH_GATEWAY_ROOT_PATH": "/a/"}).root_path == "/a"


PAGE = {"Origin": "https://lab.example.org"}
ASKING = {**PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def test_no_other_origin_is_let_in_by_default(gateway: str) -> None:
    for answer in (
        httpx.get(f"{gateway}/healthz", headers=PAGE),
        httpx.options(f"{gateway}/v1/batches", headers=ASKING),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", ["https://lab.example.org,https://b", "*"])
def test_a_named_origin_s_pages_ask_and_read(make_gateway, tmp_path, origins: str) -> None:
    """Also of a gateway that asks for tokens: a browser asks first, and without one."""
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": []}))
    url = make_gateway(cors_origins=origins, tokens=tmp_path / "tokens.json").url
    first = httpx.options(f"{url}/v1/batches", headers=ASKING)
    allowed = "*" if origins == "*" else PAGE["Origin"]
    assert first.status_code == 200 and first.headers["Access-Control-Allow-Origin"] == allowed
    refused = httpx.get(f"{url}/v1/generators", headers=PAGE)
    assert refused.status_code == 401 and refused.headers["Access-Control-Allow-Origin"] == allowed
    assert "X-Nonesuch-Order" in refused.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in refused.headers


def test_others_are_not_let_in_and_caches_keep_them_apart(make_gateway) -> None:
    url = make_gateway(cors_origins="https://lab.example.org").url
    stranger = httpx.get(f"{url}/healthz", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in stranger.headers
    assert "Origin" in httpx.get(f"{url}/healthz").headers["Vary"]
    assert "Origin" in httpx.get(f"{url}/healthz", headers=PAGE).headers["Vary"]
