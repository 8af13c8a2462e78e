"""Hostile requests, in one table by kind: each is refused with a 4xx that says what is wrong with it, in time, and
all of them together leave Redis as it was. They are sent over a bare socket: client libraries refuse to send many.
"""

import gzip
import io
import json
import re
import socket
import struct
import zipfile
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from nonesuch.labels import Balanced
from nonesuch.link import Call
from nonesuch_gateway.recipes.recipe import VERSION, Content, Recipe

TIME_LIMIT_S = 10.0
JSON = "application/json"
PROBLEM = "application/problem+json"
CLASSIFIER = {
    "architecture": "resnet18", "args": {}, "image_shape": [4, 4, 1], "classes": 3, "mean": [0.5], "std": [0.5],
    "epoch": 1, "step": 2,
}  # fmt: skip
NAMES = ('""', '"../x"', '"a b"', '"a:b"', '"\\u0000"', '"a\\u0000"', '"\\u202eabc"', '"e\\u0301"', '"\\u200bant"',
         '"ä"', '"a\\r\\nb"', '"a\\n"', '"\\ud800"', f'"{"x" * 65}"', "1", "true", "[]", "{}")  # fmt: skip
"""What is no identifier, as JSON."""


class Hostile(NamedTuple):
    """A request that must be refused."""

    request: bytes
    statuses: tuple[int, ...]
    pointer: str | None = None
    """Of the part of the request that the answer must name."""
    by_server: bool = False
    """Whether the HTTP server refuses it, before any code of ours sees it."""


def raw(method: str, target: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A request; a `length` is declared instead of the body's own."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(body: str | bytes, *headers: str, to: str = "/v1/batches", kind: str = JSON) -> bytes:
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return raw("POST", to, data, f"Content-Type: {kind}", *headers)


def put(body: bytes, *headers: str, to: str = "/v1/snapshots/9") -> bytes:
    return raw("PUT", to, body, *headers)


FIELDS: dict[str, tuple[str, ...]] = {
    "count": ('"5"', "-1", "0", "-0", "1.5", "5.0", "true", "[]", "{}", "NaN", "-Infinity", "1e999", "1000001",
              str(2**53 + 1), str(2**63), str(2**64), "-" + "9" * 400),
    "classes": ('"ant"', "7", "{}", "[]", "[[]]", "[1.5]", "[true]", "[-1]", "[3]", f"[{2**64}]", '["bea"]', "[null]",
                '["\\ud800"]', '["\\u0000"]', '["\\u202eant"]', '["a\\u200bnt"]', f'["{"x" * 200}"]', "[NaN]",
                f"[{','.join('0' * 5000)}]"),
    "quota": ('"ant"', "7", "[]", "{}", '{"aunt": 1}', '{"ant": -1}', '{"ant": 0}', '{"ant": 1.5}', '{"ant": "1"}',
              '{"ant": true}', f'{{"ant": {2**64}}}', '{"ant": NaN}', '{"ant": 1, "0": 1}', '{"\\ud800": 1}'),
    "generator": (*NAMES[:-3], "7", "{}", "[1]", '["small", "../x"]', json.dumps(["small"] * 65)),
    "strategy": (*NAMES, "null", '"magic"'),
    "params": ("1", '"x"', "[]", '{"sigma": -1}', '{"sigma": NaN}', '{"sigma": 1e999}', '{"sigma": "1"}',
               '{"sigma": null}', f'{{"sigma": {2**64}}}', '{"\\u0000": 1}', '{"sigma": "\\ud800"}',
               '{"__proto__": {}}'),
    "seed": ('"7"', "-1", "1.5", "true", "[]", str(2**63), str(2**64), "NaN", "Infinity"),
    "snapshot": ('"newest"', "-1", "1.5", "true", "[]", "{}", str(2**53), str(2**64), "NaN"),
    "channel": (*NAMES, "null"),
    "teacher": ('"x"', "1", "[]", '{"channel": "../x"}', '{"version": -1}', '{"version": "newest"}', '{"x": 1}',
                '{"version": 1e999}', '{"version": "\\ud800"}'),
    "deadline_s": ('"5"', "0", "-0.0", "-1", "NaN", "Infinity", "1e999", "1e9", str(2**64), "[]", "true"),
    "format": ("1", "[]", "{}", "true"),
}  # fmt: skip
"""Values that a field of a body cannot have, as JSON."""


def wrong_fields(to: str) -> Iterator[Hostile]:
    for field, values in FIELDS.items():
        beside = "" if field in ("count", "quota") else '"count": 5, '
        for value in values:
            yield Hostile(post(f'{{{beside}"{field}": {value}}}', to=to), (422,), f"#/{field}")
    for field in ("colour", "__proto__", "coun\\u0074\\u200b", ""):
        yield Hostile(post(f'{{"count": 5, "{field}": 1}}', to=to), (422,), "#/")
    yield Hostile(post('{"count": 5, "\\ud800": 1}', to=to), (422,), "#")
    for name in ("parket", "", "\\u0000", "../zip", "ZIP"):
        yield Hostile(post(f'{{"count": 5, "format": "{name}"}}', to=to), (406,))
    yield Hostile(post('{"count": 5, "generator": "biggan"}', to=to), (404,))
    yield Hostile(post(f'{{"count": 5, "teacher": {{"version": {2**64}}}}}', to=to), (404, 422))
    yield Hostile(post('{"count": 5, "strategy": "mined", "snapshot": 77}', to=to), (404,))


def parquet_bomb() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([bytes(2**24)] * 4)}), sink, compression="zstd")
    return sink.getvalue()


def zip_bomb() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../x", bytes(2**24))
    return sink.getvalue()


def bodies() -> Iterator[Hostile]:
    """What is not JSON, not only JSON, or JSON that two readers could take for two things."""
    good = '{"count": 5}'
    for text in (good[:-1], "{", '{"count": 5,}', "{'count': 5}", '{"count": 5} /* */', good * 2, good + "\x00",
                 '{"count": 05}', '{"count": +5}', '{"count": 0x5}', '{"count": 5, "seed": "\x01"}', "nonsense",
                 "\ufeff" + good, '{"count": 5, "generator": "\ud800"}', '{"count": ' + "9" * 5000 + "}"):  # fmt: skip
        yield Hostile(post(text), (400,))
    for data in (b"\x80\x04\x95 pickle", good.encode("utf-16"), good.encode("utf-32"), b"\xff" * 9, parquet_bomb(),
                 zip_bomb(), gzip.compress(good.encode()), zlib.compress(bytes(2**24)), b"\xc0\x80"):  # fmt: skip
        yield Hostile(post(data), (400,))
    for text in ("[]", "[1]", "5", '"count"', "null", "true", "NaN"):
        yield Hostile(post(text), (422,), "#")
    for depth, before in (
        (20, ""),
        (15, '{"count": 5, "params": {"sigma": '),
        (300, '{"count": 5, "x": '),
        (100_000, ""),
        (100_000, '{"params": '),
    ):
        yield Hostile(post(before + "[" * depth + "]" * depth + "}" * before.count("{")), (400, 422))
    yield Hostile(post('{"count": 5, "count": 6}'), (422,), "#/count")
    yield Hostile(post('{"count": 5, "params": {"sigma": 1, "sigma": 2}}'), (422,), "#/params/sigma")
    yield Hostile(post('{"count": 5, "params": {"x": [1, {"a": 1, "a": 2}]}}'), (422,), "#/params/x/1/a")
    yield Hostile(post('{"count": 5, "coun\\u0074": 6}'), (422,), "#/count")
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x" * 300):
        yield Hostile(post(gzip.compress(bytes(2**20)), f"Content-Encoding: {coding}"), (415,))
        yield Hostile(put(gzip.compress(bytes(2**20)), f"Content-Encoding: {coding}"), (415,))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
                 "text/json", "application/jsonx", "application", "application/x-safetensors", "\xff\xfe", ";",
                 "x" * 2000):  # fmt: skip
        yield Hostile(post(good, kind=kind), (415,))
    for kind in ("application/json", "text/plain", "image/png", "application/zip", "multipart/form-data"):
        yield Hostile(put(payload(), f"Content-Type: {kind}"), (415,))


RECIPE = Recipe(
    content=Content(generators=("small",), labels=Balanced(classes=(0, 1, 2)), count=5), weights=("a" * 64,)
).id
"""One that can be minted."""


def sizes() -> Iterator[Hostile]:
    """Bodies that are larger than allowed or than declared; of most of them nothing is sent but the length."""
    for declared in (2**20 + 1, 2**31, 2**40, 2**63 - 1):
        yield Hostile(raw("POST", "/v1/batches", b"", f"Content-Type: {JSON}", length=declared), (413,))
        yield Hostile(raw("POST", "/v1/orders", b"", f"Content-Type: {JSON}", length=declared), (413,))
    for declared in (2**28 + 1, 2**40, 2**63 - 1):
        yield Hostile(raw("PUT", "/v1/snapshots/9", b"", length=declared), (413,))
    for target in (f"/v1/batches/{RECIPE}", "/v1/stats", "/v1/snapshots/5", "/v1/orders/x/results", "/healthz"):
        yield Hostile(raw("GET", target, b"", length=2**30), (413,))
        yield Hostile(raw("DELETE", target, b"", length=2**30), (405, 413))
    yield Hostile(post('{"count": 5, "x": "' + "y" * 2**20 + '"}'), (413,))
    chunk = b"40000\r\n" + b" " * 2**18 + b"\r\n"
    head = raw("POST", "/v1/batches", b"", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    yield Hostile(head + chunk * 5 + b"0\r\n\r\n", (413,))


def payload(document: object = CLASSIFIER) -> bytes:
    return safetensors.numpy.save({"w": np.zeros(4, np.float32)}, {"nonesuch.classifier": json.dumps(document)})


def tensors(header: str | bytes | dict, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file by hand."""
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(**given: object) -> dict:
    return {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **given}}


def snapshots() -> Iterator[Hostile]:
    """Payloads that cannot be; where a tensor or a field is to blame, it is named."""
    whole = payload()
    for data in (b"", b"\x80\x04\x95 pickle", b"PK\x03\x04", zip_bomb(), parquet_bomb(), whole[:7], whole[:-1],
                 whole[:40], whole + b"\0", tensors("{}", length=2**63), tensors("{}", length=2**64 - 1),
                 tensors("{}", length=100 * 2**20), tensors("{" + " " * 2**20 + "}"), tensors("{}"), tensors("[]"),
                 tensors("{"), tensors(b"\xff{}"), tensors('{"w":' * 50_000 + "}" * 50_000), tensors('{"w": NaN}'),
                 tensors('{"w": {}, "w": {}}'), tensors('{"\\ud800": {}}'), tensors('{"' + "x" * 600 + '": {}}'),
                 tensors('{"a\\u0000": {}}'), tensors('{"\\u202e": {}}')):  # fmt: skip
        yield Hostile(put(data), (422,))
    for bad in ({"w": 1}, {"w": []}, {"w": {}}, entry(dtype="F128"), entry(dtype="object"), entry(dtype=1),
                entry(shape=[-4]), entry(shape="4"), entry(shape=[2**40, 2**40]), entry(shape=[2**64]),
                entry(shape=[1] * 100), entry(shape=[1.5]), entry(shape=[True]), entry(data_offsets=[16, 0]),
                entry(data_offsets=[0, 2**63]), entry(data_offsets=[-16, 0]), entry(data_offsets=[0]),
                entry(data_offsets=[0, 8]), entry(data_offsets=[8, 24]), entry(pickle="x"),
                {**entry(), "v": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}},
                {**entry(), "v": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}}):  # fmt: skip
        yield Hostile(put(tensors(bad, bytes(24))), (422,), f"#/{'v' if 'v' in bad else 'w'}")
    for metadata in (1, [], {"nonesuch.classifier": 1}, {"nonesuch.classifier": "{"}, {"nonesuch.classifier": "[]"},
                     {}, {"nonesuch.classifier": "[" * 100_000}):  # fmt: skip
        yield Hostile(put(tensors({"__metadata__": metadata, **entry()})), (422,), "#/__metadata__")
    for field, values in {
        "architecture": (1, "../x", "", "\u202e", None),
        "args": (1, {"a": []}, {"a": float("nan")}),
        "image_shape": (1, [4, 4], [4, -4, 1], [0, 0, 0], [2**64] * 3, ["4"] * 3),
        "classes": (-1, 0, 1, 2**64, 1.5, float("nan")),
        "class_names": ("ant", ["a"], [1, 2, 3]),
        "mean": ([], [float("nan")], [float("inf")], ["x"], [0.5] * 2),
        "std": ([0], [-1], [], [float("nan")]),
        "epoch": (-1, 2**64, "x", 1.5),
        "step": (-1, 2**53 + 1, None),
        "colour": ("red",),
    }.items():
        for value in values:
            yield Hostile(put(payload({**CLASSIFIER, field: value})), (422,), f"#/{field}")
    diverged = safetensors.numpy.save({"w": np.array([np.nan], np.float32)})
    yield Hostile(put(diverged), (422,), "#/")
    for version in ("-1", "1.5", "x", "1e3", str(2**53), "9" * 400, "%00", "%ff", "NaN", "+9", "9%0a", "0x9"):
        yield Hostile(put(whole, to=f"/v1/snapshots/{version}"), (422,), "#/version")
        yield Hostile(raw("GET", f"/v1/snapshots/{version}"), (422,), "#/version")
    for channel in ("", "..%2fx", "a%20b", "a:b", "%00", "%ff", "a%0d%0ab", "%E2%80%AE", "x" * 65, "a&channel="):
        yield Hostile(put(whole, to=f"/v1/snapshots/9?channel={channel}"), (422,), "#/channel")
        yield Hostile(raw("GET", f"/v1/snapshots?channel={channel}"), (422,), "#/channel")
    yield Hostile(put(whole, to="/v1/snapshots/4"), (409,))
    yield Hostile(put(whole, 'If-Match: "x"'), (412,))
    yield Hostile(put(whole, "If-Match: " + '"x",' * 1000), (412,))
    for digest in ("sha-256=:AAAA:", "sha-256=x", "sha-256=::", "sha-256=" + "A" * 3000):
        yield Hostile(put(whole, f"Content-Digest: {digest}"), (422,), "#/Content-Digest")
    for digest in ("x", "", "0" * 63, "0" * 65, "\xff" * 64):
        yield Hostile(put(whole, f"X-Content-SHA256: {digest}"), (422,), "#/X-Content-SHA256")
    yield Hostile(put(whole, f"X-Content-SHA256: {'0' * 64}"), (422,), "#/Content-Digest")


def recipe(document: object) -> str:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return VERSION + urlsafe_b64encode(zlib.compress(text, 9)).rstrip(b"=").decode()


TRICKS = ("..", "../..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "%0d%0aX:%20y", "%ff", "%", "%zz", "\\..\\x",
          "a//b", "%E2%80%AE", "%ed%a0%80", "~root", "x" * 9000, "-1", "null", "*", "..;", ".%00.",
          "$(id)", "' OR 1=1")  # fmt: skip


def paths() -> Iterator[Hostile]:
    """Ids that are none, and paths and methods that there are not."""
    for trick in TRICKS:
        target = trick.replace(" ", "%20")
        yield Hostile(raw("GET", f"/v1/batches/{target}"), (404, 405))
        yield Hostile(raw("GET", f"/v1/orders/{target}"), (404, 405))
        yield Hostile(raw("DELETE", f"/v1/orders/{target}"), (404, 405))
        yield Hostile(raw("GET", f"/v1/orders/{target}/results"), (404,))
        yield Hostile(raw("GET", f"/v1/orders/{target}/events"), (404,))
        yield Hostile(raw("GET", f"/v1/generators/{target}"), (404, 422))
    forged = {"content": {"generators": ["small"], "labels": {"classes": [0]}, "count": 5}, "weights": ["a" * 64]}
    for document in (b"", b"{", b"[]", b"null", b"[" * 60_000, bytes(2**24), b" " * 60_000 + b"{}", {},
                     {**forged, "x": 1}, {**forged, "weights": []}, {**forged, "weights": ["../x"]},
                     {**forged, "weights": [1]},
                     {**forged, "content": {**forged["content"], "count": -1}},
                     {**forged, "content": {**forged["content"], "count": 2**64}},
                     {**forged, "content": {**forged["content"], "count": 10_000_000}},
                     {**forged, "content": {**forged["content"], "seed": -1}},
                     {**forged, "content": {**forged["content"], "ticket_size": 10**9}},
                     {**forged, "content": {**forged["content"], "generators": ["../x"]}},
                     {**forged, "content": {**forged["content"], "sink": "reply-x"}},
                     {**forged, "content": {**forged["content"], "labels": {"classes": [99]}}},
                     {**forged, "content": {**forged["content"], "params": {"sigma": float("nan")}}},
                     {**forged, "content": {**forged["content"], "snapshot": {"version": "latest"}}}):  # fmt: skip
        yield Hostile(raw("GET", f"/v1/batches/{recipe(document)}"), (404, 410))
    for made in (*(VERSION + each for each in ("", "AAAA", "%%%", "=", "é".encode().decode("latin-1"), "A" * 8000)),
                 "r2.AAAA", recipe({})[:-3], recipe({}) + "A", VERSION + "/../x"):  # fmt: skip
        yield Hostile(raw("GET", f"/v1/batches/{made}"), (400, 404), by_server="\xc3" in made)
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        yield Hostile(raw(method, "/v1/batches"), (405,))
    for target in ("/v2/batches", "//v1/batches", "/v1//batches", "/v1/batches/", "/V1/batches", "/v1/batches;x",
                   "/.git", "/v1/../v1/stats", "/%2e%2e/x", "/docs/../../x", "/" + "x/" * 3000,
                   "/v1/stats%00"):  # fmt: skip
        yield Hostile(raw("GET", target), (404, 405))


def queries() -> Iterator[Hostile]:
    """Formats, codecs and media types that there are not."""
    for value in ("parket", "", "%00", "%ff", "../zip", "x" * 5000, "%E2%80%AE", "zip&format=tar", "NULL"):
        yield Hostile(post('{"count": 5}', to=f"/v1/batches?format={value}"), (406,))
        yield Hostile(post('{"count": 5}', to=f"/v1/orders?format={value}"), (406,))
        yield Hostile(post('{"count": 5}', to=f"/v1/batches?format=arrow&codec={value}"), (406,))
    for accept in ("text/html", "a", "*/json", "image/png;q=2", "image/png;q=NaN", "image/png;q=-1", "image/png;q=0",
                   "*/*;q=0", "x/y," * 400, "image/*;q=0.0001", "x" * 5000, "\xff/\xff", "application/zip;q=", "/",
                   "image /png"):  # fmt: skip
        yield Hostile(post('{"count": 5}', f"Accept: {accept}"), (406,))
    yield Hostile(post('{"count": 2000}', to="/v1/batches?format=png"), (422,), "#/count")


def framing() -> Iterator[Hostile]:
    """Requests that two servers would cut in two ways; most of them the HTTP server refuses."""
    body = b'{"count": 5}'
    line, host, kind = "POST /v1/batches HTTP/1.1", "Host: x", f"Content-Type: {JSON}"
    for lines in (
        (line, host, kind, "Content-Length: 5", "Transfer-Encoding: chunked"),
        (line, host, kind, "Transfer-Encoding: chunked", "Content-Length: 5"),
        (line, host, kind, "Transfer-Encoding: chunked, identity"),
        (line, host, kind, "Transfer-Encoding: xchunked"),
        (line, host, kind, "Transfer-Encoding: identity, chunked, chunked, x"),
        (line, host, kind, "Content-Length: 12", "Content-Length: 13"),
        (line, host, kind, "Content-Length: 12, 12"),
        (line, host, kind, "Content-Length: -1"),
        (line, host, kind, "Content-Length: +12"),
        (line, host, kind, "Content-Length: 0x0c"),
        (line, host, kind, "Content-Length: 1 2"),
        (line, host, kind, "Content-Length: NaN"),
        (line, host, kind, f"Content-Length: {2**64}"),
        (line, host, kind, "Content-Length : 12"),
        (line, host, kind, "Content-Length: 12", " folded: yes"),
        (line, host, kind, "X: a\x00b"),
        (line, host, kind, "X: a\rb"),
        (line, host, kind, "no colon"),
        (line, host, kind, ": no name"),
        (line, host, kind, "X y: z"),
        ("POST /v1/batches HTTP/9.9", host, kind),
        ("POST /v1/batches HTTQ/1.1", host, kind),
        ("POST  /v1/batches HTTP/1.1 x", host, kind),
        ("P\x00ST /v1/batches HTTP/1.1", host, kind),
        ("HACK /v1/batches HTTP/1.1", host, kind),
        ("POST /v1/\xc3\xa9 HTTP/1.1", host, kind),
        ("\x16\x03\x01\x02\x00", host),
    ):
        yield Hostile("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, (400, 405, 413), by_server=True)
    chunked = raw("POST", "/v1/batches", b"", kind, "Transfer-Encoding: chunked")
    for chunks in (
        b"zz\r\n",
        b"-5\r\n{}\r\n",
        b"ffffffffffffffffff\r\n{}",
        b"0x5\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}{}\r\n0\r\n\r\n",
    ):
        yield Hostile(chunked + chunks, (400,), by_server=True)
    yield Hostile(raw("GET", "/healthz", b"", "X: " + "a" * 100_000), (400,), by_server=True)
    yield Hostile(raw("GET", "/healthz", b"", *(f"X{i}: {'a' * 1000}" for i in range(5000))), (400,), by_server=True)


KINDS: dict[str, Callable[[], Iterator[Hostile]]] = {
    "fields of batches": lambda: wrong_fields("/v1/batches"),
    "fields of orders": lambda: wrong_fields("/v1/orders"),
    "bodies": bodies,
    "sizes": sizes,
    "snapshots": snapshots,
    "paths": paths,
    "queries": queries,
    "framing": framing,
}


def exchange(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and read one answer: status, headers, body."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=TIME_LIMIT_S) as connection:
        with suppress(ConnectionError):  # refused before it was read to its end; the answer is there nevertheless
            connection.sendall(request)
        answer = HTTPResponse(connection, method=request.split(b" ", 1)[0].decode("latin-1"))
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def fault(url: str, hostile: Hostile) -> str | None:
    """What is wrong with the answer to a hostile request."""
    try:
        status, headers, body = exchange(url, hostile.request)
    except Exception as error:
        return f"no answer: {error!r}"
    if status not in hostile.statuses:
        return f"{status} instead of {hostile.statuses}: {body[:300]!r}"
    if headers.get("content-type") != PROBLEM:
        return None if hostile.by_server else f"it is {headers.get('content-type')}: {body[:300]!r}"
    problem = json.loads(body)
    if problem["status"] != status or not problem["detail"] or len(body) > 8192:
        return f"it is no good problem: {body[:300]!r}"
    named = [error["pointer"] for error in problem["errors"]]
    if hostile.pointer is not None and not any(pointer.startswith(hostile.pointer) for pointer in named):
        return f"{status} names {named} instead of {hostile.pointer}: {problem['detail'][:300]}"
    return None


@pytest.fixture
def url(http: httpx.Client, workers, gateway: str, until) -> str:
    """A gateway in use: there is a worker, a snapshot, and an order that waits for its reader."""
    workers()
    assert http.put("/v1/snapshots/5", content=payload()).status_code == 201
    placed = http.post("/v1/orders", json={"count": 5}).json()
    until(lambda: http.get(placed["links"]["self"]).json()["state"] == "done")
    return gateway


@pytest.fixture
def everything(link) -> Callable[[], dict[bytes, object]]:
    """`everything()`: every key in Redis, and what it holds, but for heartbeats and the time to live of keys."""

    def look():
        found: dict[bytes, object] = {}
        for key in (yield Call("KEYS", "*")):
            if b":worker" not in key and not key.endswith(b":bell"):
                fields = (yield Call("TYPE", key)) == b"hash"  # whose dump has no order
                found[key] = sorted((yield Call("HVALS", key))) if fields else (yield Call("DUMP", key))
        return found

    return lambda: link.run(look())


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_requests_are_refused_and_leave_nothing(everything, url, kind, until):
    before = everything()
    assert before
    faults = [
        f"{hostile.request[:200]!r}: {found}" for hostile in KINDS[kind]() if (found := fault(url, hostile)) is not None
    ]
    assert not faults, "\n".join([f"{len(faults)} of them:", *faults])
    assert everything() == before


def test_there_are_many_of_them():
    assert sum(1 for kind in KINDS.values() for _ in kind()) >= 200


JUNK = ('"', "*", '"x", W/"y', "\xff" * 9, "-1", "9" * 400, "bytes=0-0,-1,5-", "bytes=9999999999-", "NaN", "x" * 4000)


@pytest.mark.parametrize("header", ["Range", "If-Range", "If-None-Match", "Last-Event-ID", "X-Request-Id", "Cookie"])
def test_junk_that_http_says_to_ignore_is_ignored(url, header):
    for junk in JUNK:
        for target in ("/v1/snapshots/latest", "/v1/stats"):
            status, headers, body = exchange(url, raw("GET", target, b"", f"{header}: {junk}"))
            has_any = (header, junk, target) == ("If-None-Match", "*", "/v1/snapshots/latest")
            assert status == (304 if has_any else 200), (junk, body[:300])
            assert re.fullmatch(r"[\w.-]{1,128}", headers["x-request-id"], re.ASCII)
