"""Snapshots over HTTP: published and fetched, in order, once; and every way in which one is refused."""

import base64
import json
import socket
import struct
from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch

from nonesuch.classifiers.file import write_classifier
from nonesuch.classifiers.registry import build
from nonesuch.classifiers.snapshot import load_snapshot
from nonesuch.classifiers.spec import ClassifierSpec
from nonesuch.link import Call
from nonesuch.snapshots import CHUNK_BYTES, SnapshotHeader, fetch, kept_versions

HEADER = {
    "architecture": "resnet18",
    "args": {"width": 2},
    "image_shape": [4, 4, 1],
    "classes": 3,
    "class_names": ["ant", "bee", "cat"],
    "mean": [0.5],
    "std": [0.5],
    "epoch": 1,
    "step": 2,
}
TENSORS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(3, 2), "fc.bias": np.zeros(3, np.float32)}


def payload(tensors: dict[str, np.ndarray] | None = None, document: object = None, **header: object) -> bytes:
    """A safetensors file with a header in its metadata: `HEADER` with changes, or another document."""
    text = document if isinstance(document, str) else json.dumps(document or {**HEADER, **header})
    return safetensors.numpy.save(TENSORS if tensors is None else tensors, {"nonesuch.classifier": text})


def tag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()}"'


def put(http: httpx.Client, version: object, data: bytes | Iterator[bytes], channel: str = "default", **headers: str):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.put(f"/v1/snapshots/{version}", params={"channel": channel}, content=data, headers=given)


def refused(response: httpx.Response, status: int, words: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert words in document["detail"]
    return document


def test_what_is_published_is_what_is_fetched(http, link):
    data = payload()
    published = put(http, 7, data, "mine")
    assert published.status_code == 201, published.text
    assert published.headers["location"] == "/v1/snapshots/7?channel=mine"
    assert published.headers["etag"] == tag(data)
    answer = published.json()
    assert (answer["channel"], answer["version"], answer["sha256"]) == ("mine", 7, sha256(data).hexdigest())
    assert link.run(fetch(link.keys, "mine", 7)) == (SnapshotHeader.model_validate(answer), data)
    for url in ("/v1/snapshots/latest?channel=mine", published.headers["location"]):
        fetched = http.get(url)
        assert fetched.status_code == 200 and fetched.content == data
        assert fetched.headers["content-type"] == "application/x-safetensors"
        assert fetched.headers["etag"] == tag(data)
        assert fetched.headers["x-nonesuch-snapshot"] == "7"
        assert "mine-7.safetensors" in fetched.headers["content-disposition"]
        digest = base64.b64encode(sha256(data).digest()).decode()
        assert fetched.headers["content-digest"] == f"sha-256=:{digest}:"


def test_a_client_that_has_it_is_told_so(http):
    data = payload()
    put(http, 1, data)
    for given in (tag(data), f'"x", W/{tag(data)}'):
        unchanged = http.get("/v1/snapshots/latest", headers={"If-None-Match": given})
        assert unchanged.status_code == 304 and not unchanged.content and unchanged.headers["etag"] == tag(data)
        assert unchanged.headers["x-nonesuch-snapshot"] == "1"
    assert http.get("/v1/snapshots/latest", headers={"If-None-Match": '"x"'}).content == data
    put(http, 2, payload(epoch=2))
    assert http.get("/v1/snapshots/latest", headers={"If-None-Match": tag(data)}).status_code == 200


def test_head_says_what_get_would(http):
    data = payload()
    put(http, 1, data)
    for url in ("/v1/snapshots/latest", "/v1/snapshots/1"):
        head, got = http.head(url), http.get(url)
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == str(len(data))
        for name in ("etag", "content-type", "content-length", "content-digest", "x-nonesuch-snapshot"):
            assert head.headers[name] == got.headers[name]
    assert http.head("/v1/snapshots/9").status_code == 404


def test_a_payload_of_several_chunks(http):
    data = payload({"weight": np.arange(CHUNK_BYTES // 4 * 2 + 5, dtype=np.float32)})
    sent = put(http, 1, iter([data[:1000], data[1000:5_000_000], data[5_000_000:]]))
    assert sent.status_code == 201, sent.text
    assert http.get("/v1/snapshots/1").content == data


def test_versions_only_go_up_and_the_same_again_does_no_harm(http, link):
    data, other = payload(), payload(epoch=2)
    assert put(http, 5, data).status_code == 201
    assert put(http, 5, data).status_code == 200
    refused(put(http, 5, other), 409, "not above the latest, 5")
    refused(put(http, 4, other), 409, "version 4 of channel 'default' is not above the latest, 5")
    assert put(http, 4, other, "another").status_code == 201
    assert link.run(kept_versions(link.keys, "default")) == (5,)
    assert http.get("/v1/snapshots/latest").content == data


def test_if_match_is_about_the_latest(http, link):
    data, other = payload(), payload(epoch=2)
    for given in ("*", tag(data)):
        refused(put(http, 1, data, If_Match=given), 412, "there is none")
    put(http, 1, data)
    for given in (tag(other), f"W/{tag(data)}", "nonsense"):
        refused(put(http, 2, other, If_Match=given), 412, "it is version 1")
    assert put(http, 2, other, If_Match=f'"x", {tag(data)}').status_code == 201
    assert put(http, 3, data, If_Match="*").status_code == 201
    assert link.run(kept_versions(link.keys, "default")) == (1, 2, 3)


def test_a_digest_is_checked(http, traces):
    data = payload()
    right = base64.b64encode(sha256(data).digest()).decode()
    wrong = base64.b64encode(sha256(b"x").digest()).decode()
    for given in ({"Content_Digest": f"sha-256=:{wrong}:"}, {"X_Content_SHA256": sha256(b"x").hexdigest()}):
        document = refused(put(http, 1, data, **given), 422, "was damaged on its way")
        assert document["type"].endswith(":invalid-snapshot")
    assert not traces()
    for given in (
        {"Content_Digest": f"sha-512=:AA==:, sha-256=:{right}:"},
        {"X_Content_SHA256": sha256(data).hexdigest().upper()},
        {"Content_Digest": "unixsum=1"},
    ):
        assert put(http, 1, data, **given).status_code in (200, 201)


def test_what_a_run_leaves_is_published_as_it_is_and_workers_load_it(http, link, tmp_path):
    model = build(ClassifierSpec(architecture="resnet18", args={"width": 2}), in_channels=1, classes=3, image_size=4)
    given = {**HEADER, "channel": "run", "version": 12, "sha256": "0" * 64}
    path = tmp_path / "classifier.safetensors"
    write_classifier(path, SnapshotHeader.model_validate(given), model)
    assert put(http, 3, path.read_bytes()).status_code == 201
    header, weights = link.run(fetch(link.keys, "default", 3))
    assert (header.channel, header.version, header.epoch) == ("default", 3, 1)
    loaded = load_snapshot(header, weights)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_an_order_can_name_it(http, workers):
    workers()
    put(http, 3, payload(), "mine")
    minted = http.post("/v1/batches", json={"count": 5, "strategy": "mined", "snapshot": "latest", "channel": "mine"})
    assert minted.status_code == 200, minted.text
    assert minted.headers["x-nonesuch-snapshot"] == "3"


BAD_PAYLOADS = [
    (b"", "has 0 bytes", "#"),
    (b"\x80\x04\x95 pickle", "no safetensors", "#"),
    (payload()[:-1], "cut off", "#"),
    (struct.pack("<Q", 2**40) + b"{}", "cut off", "#"),
    (struct.pack("<Q", 2**20 + 9) + b"{" + b" " * 2**20 + b"        ", "1048576 are allowed", "#"),
    (struct.pack("<Q", 2**20) + b'{"a":' + b"[" * (2**20 - 5), "not JSON", "#"),
    (payload({"fc.weight": np.array([1, np.nan], np.float32)}), "'fc.weight' has values that are not", "#/fc/weight"),
    (payload({"w": np.array([np.inf], np.float16)}), "'w' has values that are not finite", "#/w"),
    (safetensors.numpy.save(TENSORS), "has no 'nonesuch.classifier'", "#/__metadata__"),
    (payload(document="{"), "is not JSON", "#/__metadata__"),
    (payload(document="[" * 100_000), "is not JSON", "#/__metadata__"),
    (payload(document="[1]"), "must be a JSON object", "#/__metadata__"),
    (payload(document={"classes": 3}), "#/architecture: this is required", "#/architecture"),
    (payload(architecture="../resnet"), "#/architecture", "#/architecture"),
    (payload(image_shape=[4, 4]), "#/image_shape/2: this is required", "#/image_shape/2"),
    (payload(image_shape=[4, -4, 1]), "#/image_shape/1", "#/image_shape/1"),
    (payload(classes=10**12), "#/classes", "#/classes"),
    (payload(class_names=["ant"]), "1 names for 3 classes", "#/class_names"),
    (payload(document=json.dumps({**HEADER, "mean": [float("nan")]})), "finite", "#/mean/0"),
    (payload(std=[0]), "must be positive", "#/std"),
    (payload(epoch=-1), "#/epoch", "#/epoch"),
    (payload(colour="red"), "#/colour", "#/colour"),
    (payload(args={"width": [1]}), "#/args/width", "#/args/width"),
]


@pytest.mark.parametrize(("data", "words", "pointer"), BAD_PAYLOADS, ids=range(len(BAD_PAYLOADS)))
def test_a_payload_that_cannot_be_is_refused_and_leaves_nothing(http, traces, data, words, pointer):
    document = refused(put(http, 1, data), 422, words)
    assert pointer in ["#", *(error["pointer"] for error in document["errors"])]
    assert not traces()


@pytest.mark.parametrize("version", ["-1", "1.5", "x", "1e3", str(2**53), "9" * 400, "%00", "ä"])
def test_a_version_that_is_none(http, traces, version):
    for response in (put(http, version, payload()), http.get(f"/v1/snapshots/{version}")):
        (error,) = refused(response, 422, "path parameter")["errors"]
        assert error["pointer"] == "#/version"
    assert not traces()


@pytest.mark.parametrize("channel", ["", "../x", "a b", "a:b", "ä", "x" * 65, "\x00", "a\r\nb"])
def test_a_channel_that_is_none(http, traces, channel):
    for response in (
        put(http, 1, payload(), channel),
        http.get("/v1/snapshots/latest", params={"channel": channel}),
        http.get("/v1/snapshots/1", params={"channel": channel}),
    ):
        (error,) = refused(response, 422, "query parameter")["errors"]
        assert error["pointer"] == "#/channel"
    assert not traces()


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "1/2", "1%2f2", "%2e%2e/stats/x"])
def test_a_path_that_leads_elsewhere(http, path):
    assert http.get(f"/v1/snapshots/{path}").status_code in (404, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_type(http, traces, headers):
    refused(http.put("/v1/snapshots/1", content=payload(), headers=headers), 415, "send")
    assert not traces()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Digest": "sha-256=:AAAA:"},
        {"Content-Digest": "sha-256=nonsense"},
        {"X-Content-SHA256": "abc"},
        {"X-Content-SHA256": "0" * 64, "Content-Digest": f"sha-256=:{base64.b64encode(bytes(31) + b'x').decode()}:"},
    ],
)
def test_a_digest_that_is_none(http, traces, headers):
    document = refused(http.put("/v1/snapshots/1", content=payload(), headers=headers), 422, "Content-")
    assert document["errors"][0]["pointer"] in ("#/Content-Digest", "#/X-Content-SHA256")
    assert not traces()


class HalfSent:
    """A PUT whose head is sent, and of its body only what is given once it is asked for."""

    def __init__(self, url: str, target: str, head: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=10)
        self.socket.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\n{head}\r\nExpect: 100-continue\r\n\r\n".encode())

    def begin(self, body: bytes) -> None:
        assert self.answer() == "HTTP/1.1 100 Continue"
        self.socket.sendall(body)

    def answer(self) -> str:
        """The first line of the answer."""
        received = b""
        while b"\r\n" not in received:
            part = self.socket.recv(4096)
            assert part, "the connection was closed without an answer"
            received += part
        return received.decode().split("\r\n")[0]

    def __enter__(self) -> "HalfSent":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


@pytest.mark.parametrize(
    ("target", "head", "status"),
    [
        ("1", f"Content-Length: {2**40}", 413),
        ("5", "Content-Length: 1000", 409),
        ("7", 'Content-Length: 1000\r\nIf-Match: "x"', 412),
        ("7", "Content-Length: 1000\r\nContent-Type: image/png", 415),
        ("7", "Content-Length: 1000\r\nContent-Digest: sha-256=x", 422),
        ("x", "Content-Length: 1000", 422),
        ("7?channel=a%20b", "Content-Length: 1000", 422),
    ],
)
def test_a_body_that_would_be_refused_is_not_read(http, gateway, target, head, status):
    put(http, 6, payload())
    channel = "?channel=other" if status == 413 else ""
    with HalfSent(gateway, f"/v1/snapshots/{target}{channel}", head) as client:
        assert client.answer().startswith(f"HTTP/1.1 {status} ")  # and no 100 before it


def test_a_body_that_is_too_large(make_gateway, traces):
    url = make_gateway(max_snapshot_bytes=2**21).url
    data = payload({"w": np.zeros(2**20, np.float32)})
    with httpx.Client(base_url=url, timeout=20) as client:
        refused(put(client, 1, data), 413, "2097152 are allowed")
        refused(put(client, 1, iter([data[: 2**20], data[2**20 :]])), 413, "2097152 are allowed")
        assert not traces()
        assert put(client, 1, payload({"w": np.zeros(2**18, np.float32)})).status_code == 201  # more than others may


def test_so_many_uploads_at_a_time(make_gateway):
    url = make_gateway(max_uploads=1).url
    data = payload()
    with httpx.Client(base_url=url, timeout=20) as client:
        with HalfSent(url, "/v1/snapshots/1?channel=slow", f"Content-Length: {len(data)}") as slow:
            slow.begin(data[:100])
            busy = put(client, 1, data)
            assert int(busy.headers["retry-after"]) > 0 and busy.json()["type"].endswith(":busy")
            slow.socket.sendall(data[100:])
            assert slow.answer() == "HTTP/1.1 201 Created"
        assert put(client, 1, data).status_code in (200, 201)


def test_a_client_that_leaves_or_stalls_in_mid_upload_leaves_nothing(make_gateway, until, traces):
    url = make_gateway(max_uploads=1, stall_s=2.0).url
    data = payload()
    head = f"Content-Length: {len(data)}"
    with httpx.Client(base_url=url, timeout=20) as client:
        with HalfSent(url, "/v1/snapshots/1", head) as leaving:
            leaving.begin(data[:100])
            assert put(client, 1, data, "probe").status_code == 429
        until(lambda: put(client, 1, data, "probe").status_code != 429)  # it left
        with HalfSent(url, "/v1/snapshots/1", head) as stalled:
            stalled.begin(data[:100])
            assert stalled.answer().startswith("HTTP/1.1 408 ")
        assert put(client, 1, data, "probe").status_code in (200, 201)
    assert not [key for key in traces() if b"default" in key]


def test_what_is_kept_can_be_listed(http):
    assert http.get("/v1/snapshots").json() == {"snapshots": []}
    sent = [put(http, version, payload(epoch=version), "mine").json() for version in (2, 5)]
    assert http.get("/v1/snapshots", params={"channel": "mine"}).json() == {"snapshots": sent}


def test_what_is_not_there(http):
    refused(http.get("/v1/snapshots/latest"), 404, "no snapshot was published in channel 'default'")
    for epoch in range(1, 6):
        put(http, epoch, payload(epoch=epoch))
    refused(http.get("/v1/snapshots/1"), 404, "kept are 3, 4, 5")


def change(link, *command: object) -> None:
    def run():
        yield Call(*command)

    link.run(run())


def test_a_payload_that_is_damaged_or_gone(http, link):
    put(http, 1, payload())
    change(link, "SET", link.keys.chunk("default", 1, 0), b"x" * 100)
    refused(http.get("/v1/snapshots/1"), 502, "was damaged")
    change(link, "DEL", link.keys.chunk("default", 1, 0))
    refused(http.get("/v1/snapshots/1"), 404, "is not kept")


@pytest.mark.parametrize("command", [("SETRANGE", 0, "x"), ("DEL",)], ids=["damaged", "gone"])
def test_a_payload_that_fails_in_mid_stream_is_never_taken_for_whole(http, link, command):
    put(http, 1, payload({"weight": np.ones(CHUNK_BYTES // 4 + 5, np.float32)}))
    name, *arguments = command
    change(link, name, link.keys.chunk("default", 1, 1), *arguments)
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        http.get("/v1/snapshots/1")


def test_redis_does_not_answer(make_gateway, tmp_path):
    url = make_gateway(f"unix://{tmp_path}/nothing.sock").url
    with httpx.Client(base_url=url) as client:
        for response in (put(client, 1, payload()), client.get("/v1/snapshots/latest")):
            assert int(response.headers["retry-after"]) > 0
            refused(response, 503, "nothing.sock")


def test_the_openapi_document_describes_payloads(http):
    paths = http.get("/openapi.json").json()["paths"]
    operation = paths["/v1/snapshots/{version}"]["put"]
    assert "application/x-safetensors" in operation["requestBody"]["content"]
    assert {"200", "201", "409", "412", "413", "415", "422"} <= set(operation["responses"])
    fetched = paths["/v1/snapshots/latest"]["get"]["responses"]
    assert "application/x-safetensors" in fetched["200"]["content"] and "304" in fetched
