"""HTTP/1.0: a body is what comes until the connection closes, or as long as its head says. Never chunks."""

import json
import socket
import ssl
import time
from urllib.parse import urlsplit

import httpx
import pytest

from nonesuch_gateway.formats import FORMATS
from tests.helpers.certificates import make_certificate

COUNT = 300


def ask(
    url: str, method: str, path: str, body: object = None, *headers: str, tls: ssl.SSLContext | None = None
) -> tuple[bytes, dict[str, str], bytes]:
    """First line, headers by their names in small letters, and body, of an answer to HTTP/1.0."""
    parts = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.0", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    plain = socket.create_connection((parts.hostname, parts.port), timeout=30)
    with plain if tls is None else tls.wrap_socket(plain, server_hostname=parts.hostname) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + content)
        received = bytearray()
        while data := connection.recv(2**20):
            received += data
    first, _, rest = bytes(received).partition(b"\r\n")
    lines, _, payload = rest.partition(b"\r\n\r\n")
    pairs = (line.decode().partition(": ") for line in lines.split(b"\r\n"))
    return first, {name.lower(): value for name, _, value in pairs}, payload


@pytest.mark.parametrize("extra", [(), ("Connection: keep-alive",), ("Expect: 100-continue",)], ids=str)
@pytest.mark.parametrize("form", FORMATS)
def test_a_large_answer_has_the_bytes_that_it_has_in_http_1_1(make_gateway, workers, form, extra):
    workers()
    url = make_gateway(buffer_bytes=0).url
    path, body = f"/v1/batches?format={form}", {"count": COUNT, "seed": 3}
    first, headers, payload = ask(url, "POST", path, body, *extra)
    assert first == b"HTTP/1.1 200 OK"
    assert "transfer-encoding" not in headers and "content-length" not in headers and headers["connection"] == "close"
    known = httpx.post(url + path, json=body)
    assert known.headers["transfer-encoding"] == "chunked" and payload == known.content


def test_a_large_answer_by_tls(make_gateway, workers, tmp_path):
    workers()
    certificate, key = make_certificate(tmp_path)
    url = make_gateway(buffer_bytes=0, tls_certificate=certificate, tls_key=key).url
    trusting = ssl.create_default_context(cafile=certificate)
    body = {"count": COUNT, "seed": 3}
    _, headers, payload = ask(url, "POST", "/v1/batches", body, tls=trusting)
    assert "transfer-encoding" not in headers
    assert payload == httpx.post(f"{url}/v1/batches", json=body, verify=trusting).content


def test_a_small_answer_has_its_length(http, workers):
    workers()
    first, headers, payload = ask(str(http.base_url), "POST", "/v1/batches", {"count": 5})
    assert first == b"HTTP/1.1 200 OK" and int(headers["content-length"]) == len(payload) and payload


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/generators", 200), ("GET", "/nowhere", 404), ("HEAD", "/v1/stats", 200)]
)
def test_other_answers_end_too(http, workers, method, path, status):
    workers()
    first, headers, _ = ask(str(http.base_url), method, path)
    assert int(first.split()[1]) == status and "transfer-encoding" not in headers


def test_events_are_not_in_chunks(http, workers):
    workers()
    placed = http.post("/v1/orders", json={"count": 5}).json()
    _, headers, payload = ask(str(http.base_url), "GET", placed["links"]["events"])
    assert "transfer-encoding" not in headers and payload.startswith((b"event:", b"retry:", b"id:"))
    assert b"event: end" in payload


def test_what_is_cut_off_is_no_whole_answer(make_gateway, workers):
    workers(hook=lambda ticket: time.sleep(0.3) or ("out of luck" if ticket.number == 3 else None))
    with pytest.raises(ConnectionResetError):
        ask(make_gateway(buffer_bytes=0).url, "POST", "/v1/batches", {"count": 64 * 6})
