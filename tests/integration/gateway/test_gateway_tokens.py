"""Tokens over HTTP: who gets in, with which scope, whose orders they see, and how the file's changes count at once."""

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from nonesuch.errors import InvalidValue
from nonesuch_gateway.access.guard import NEEDED, PUBLIC
from nonesuch_gateway.access.tokens import SCOPES, Scope, editing, make_token
from nonesuch_gateway.app import create_app
from nonesuch_gateway.server import listen
from nonesuch_gateway.settings import GatewaySettings

URN = "urn:nonesuch:problem:"


def add(path: Path, *scopes: Scope, **limits: object) -> str:
    """A new token in the file, as its owner sends it."""
    token, text = make_token("a test", scopes, **limits)
    with editing(path) as tokens:
        tokens[token.id] = token
    return text


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def id_of(text: str) -> str:
    return text.split("_")[1]


def problem(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == URN + kind
    return response.json()["detail"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def guarded(path: Path, make_gateway: Callable) -> httpx.Client:
    """A client, without a token, of a gateway that asks for one."""
    add(path, "admin")
    with httpx.Client(base_url=make_gateway(tokens=path).url, timeout=20) as client:
        yield client


def routes() -> list[tuple[str, str]]:
    found = iter_route_contexts(create_app(GatewaySettings()).routes)
    return sorted((method, route.path) for route in found for method in route.methods - {"HEAD"})


def test_every_route_is_public_or_has_a_scope() -> None:
    named = set(NEEDED) | {("GET", path) for path in PUBLIC}
    assert {route for route in routes() if route[1].startswith("/v1") or route not in named} <= set(NEEDED)
    assert named <= set(routes())  # and nothing is named that is not there


def test_every_route_asks_for_its_scope(guarded, path):
    tokens = {scope: add(path, scope) for scope in SCOPES}
    for method, route in routes():
        url = route.format(recipe_id="r3.x", order_id="x", version="7", generator_id="small")
        body = {"json": {"count": 1}} if method == "POST" else {}
        anonymous = guarded.request(method, url, **body)
        if route in PUBLIC:
            assert anonymous.status_code in (200, 503)
            continue
        problem(anonymous, 401, "unauthorised")
        assert anonymous.headers["www-authenticate"] == 'Bearer realm="nonesuch"'
        needed = NEEDED[method, route]
        for scope, text in tokens.items():
            answer = guarded.request(method, url, headers=bearer(text), **body)
            if needed in (None, scope) or scope == "admin":
                assert answer.status_code not in (401, 403)
            else:
                assert repr(needed) in problem(answer, 403, "forbidden")
                expected = f'Bearer realm="nonesuch", error="insufficient_scope", scope="{needed}"'
                assert answer.headers["www-authenticate"] == expected


def test_what_does_not_exist_is_hidden_from_strangers(guarded, path):
    problem(guarded.get("/v1/nothing"), 401, "unauthorised")
    assert guarded.get("/v1/nothing", headers=bearer(add(path, "mint"))).status_code == 404


def test_what_is_no_token(guarded):
    for header in (
        "",
        "Bearer",
        "Basic eDp5",
        "Bearer nsk_",
        "Bearer " + "x" * 4000,
        "nsk_0123456789abcdef_x",
        "Bearer ü",
    ):
        response = guarded.get("/v1/stats", headers={"Authorization": header.encode()})
        problem(response, 401, "unauthorised")
        assert response.headers["www-authenticate"] == 'Bearer realm="nonesuch", error="invalid_token"'


def test_a_wrong_secret_and_an_unknown_id_are_told_the_same(guarded, path):
    text = add(path, "mint")
    wrong = text[:-3] + ("AAA" if text[-3:] != "AAA" else "BBB")
    unknown = f"nsk_{'0' * 16}_{text.split('_', 2)[2]}"
    told = {problem(guarded.get("/v1/stats", headers=bearer(each)), 401, "unauthorised") for each in (wrong, unknown)}
    assert len(told) == 1
    assert guarded.get("/v1/stats", headers=bearer(text)).status_code == 200
    assert guarded.get("/v1/stats", headers={"Authorization": f"bearer {text}"}).status_code == 200


def test_nothing_is_read_of_what_a_stranger_sends(guarded, traces):
    with socket.create_connection((guarded.base_url.host, guarded.base_url.port), timeout=10) as raw:
        raw.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")  # and never sends it
        assert raw.recv(1000).startswith(b"HTTP/1.1 401 ")
    for content in (b"{", b'{"count": "x"}'):
        refused = guarded.post("/v1/batches", content=content, headers={"Content-Type": "application/json"})
        problem(refused, 401, "unauthorised")
    assert not traces()


def test_changes_of_the_file_count_at_once(guarded, path, caplog):
    text = add(path, "mint")
    assert guarded.get("/v1/stats", headers=bearer(text)).status_code == 200
    good = path.read_bytes()
    path.write_text('{"tokens": [')
    assert guarded.get("/v1/stats", headers=bearer(text)).status_code == 200
    assert guarded.get("/v1/stats", headers=bearer(text)).status_code == 200
    damaged = [record for record in caplog.records if "is not JSON" in record.message]
    assert [record.levelname for record in damaged] == ["ERROR"]  # said once
    path.unlink()
    assert guarded.get("/v1/stats", headers=bearer(text)).status_code == 200
    assert "there is no file of tokens" in caplog.text
    path.write_bytes(good)
    with editing(path) as tokens:
        del tokens[id_of(text)]
    assert "revoked" in problem(guarded.get("/v1/stats", headers=bearer(text)), 401, "unauthorised")


def test_a_token_expires(guarded, path):
    text = add(path, "admin", expires="2020-02-03T04:05:06Z")
    assert "2020-02-03 04:05 UTC" in problem(guarded.get("/v1/stats", headers=bearer(text)), 401, "unauthorised")


def test_an_order_belongs_to_the_token_that_placed_it(guarded, path, workers):
    workers()
    owner, other, admin = (bearer(add(path, scope)) for scope in ("mint", "mint", "admin"))
    order = guarded.post("/v1/orders", json={"count": 5}, headers=owner).json()["links"]
    for end in ("self", "events", "results"):
        problem(guarded.get(order[end], headers=other), 404, "order-not-found")
        assert guarded.head(order[end], headers=owner).status_code == 200
        assert guarded.head(order[end], headers=admin).status_code == 200
    problem(guarded.delete(order["self"], headers=other), 404, "order-not-found")
    assert guarded.get(order["results"], headers=owner).status_code == 200


def test_the_question_of_another_does_not_keep_an_order_alive(path, make_gateway, workers, until, traces):
    workers()
    owner, other = bearer(add(path, "mint")), bearer(add(path, "mint"))
    with httpx.Client(base_url=make_gateway(tokens=path, order_ttl_s=0.4).url) as http:
        order = http.post("/v1/orders", json={"count": 5}, headers=owner).json()["links"]["self"]

        def is_gone() -> bool:
            problem(http.get(order, headers=other), 404, "order-not-found")
            return not traces()

        until(is_gone, 3)


def test_caches_that_people_share_keep_nothing_once_tokens_are_asked_for(guarded, path, workers):
    workers()
    token = bearer(add(path, "mint"))
    first = guarded.post("/v1/batches", json={"count": 5}, headers=token)
    again = guarded.get(first.headers["content-location"], headers=token)
    assert again.content == first.content
    assert again.headers["cache-control"] == "private, max-age=31536000, immutable"
    same = guarded.get(first.headers["content-location"], headers={**token, "If-None-Match": first.headers["etag"]})
    assert same.status_code == 304 and same.headers["cache-control"].startswith("private")


def test_the_document_says_how_to_authenticate_where_tokens_are_asked_for(guarded, gateway):
    document = guarded.get("/openapi.json").json()
    (name,) = document["components"]["securitySchemes"]
    assert document["components"]["securitySchemes"][name]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("security") == (None if path in PUBLIC else [{name: []}])
            assert {"401", "403", "429"} <= set(operation["responses"]) or path in PUBLIC
    assert "securitySchemes" not in httpx.get(f"{gateway}/openapi.json").json()["components"]


def test_without_tokens_nobody_is_asked(http, workers):
    workers()
    response = http.post("/v1/batches", json={"count": 5}, headers=bearer("anything"))
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("ratelimit")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_gateway_without_tokens_stays_on_this_machine(host, path):
    with pytest.raises(InvalidValue, match=rf"listen on {host}.*--tokens.*--allow-anonymous"):
        listen(GatewaySettings(host=host, port=0))
    if host == "0.0.0.0":
        listen(GatewaySettings(host=host, port=0, allow_anonymous=True)).close()
        listen(GatewaySettings(host=host, port=0, tokens=path)).close()


def test_names_of_this_machine_are_loopback():
    listen(GatewaySettings(host="localhost", port=0)).close()
    with pytest.raises(InvalidValue, match="cannot listen on"):
        listen(GatewaySettings(host="nowhere.invalid", port=0))


def test_a_file_that_is_not_there_is_a_clear_error(path):
    with pytest.raises(InvalidValue, match="nonesuch token create"):
        create_app(GatewaySettings(tokens=path))
