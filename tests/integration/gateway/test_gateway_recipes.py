"""Recipes: the same bytes again, from nothing but the id; caches; ids that nobody made."""

import json
import zlib
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import httpx
import pytest

from nonesuch import snapshots
from nonesuch.catalog import withdraw
from nonesuch.labels import Balanced
from nonesuch.snapshots import SnapshotHeader
from nonesuch_gateway.formats import FORMATS
from nonesuch_gateway.recipes.recipe import MAX_ID, MAX_TEXT, VERSION, Content, Recipe

URN = "urn:nonesuch:problem:"


def made(http: httpx.Client, **ask: object) -> httpx.Response:
    response = http.post("/v1/batches", json=ask)
    assert response.status_code == 200, response.text
    return response


def unpacked(recipe_id: str) -> dict:
    packed = recipe_id.removeprefix(VERSION)
    return json.loads(zlib.decompress(urlsafe_b64decode(packed + "=" * (-len(packed) % 4))))


def packed(document: object) -> str:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return VERSION + urlsafe_b64encode(zlib.compress(text)).rstrip(b"=").decode()


@pytest.fixture
def worker(workers):
    return workers()[0]


@pytest.fixture
def recipe_id(http, worker) -> str:
    return made(http, count=10, seed=3).headers["content-location"].removeprefix("/v1/batches/").split("?")[0]


@pytest.mark.parametrize("ask", [{}, {"classes": ["bee"]}, {"params": {"sigma": 1.5}}, {"quota": {"cat": 90, "0": 10}}])
def test_the_same_bytes_come_again(http, workers, ask):
    workers(3)
    first = made(http, **({} if "quota" in ask else {"count": 100}), **ask)
    assert int(first.headers["content-length"]) == len(first.content)
    digest = b64encode(sha256(first.content).digest()).decode()
    assert first.headers["content-digest"] == f"sha-256=:{digest}:"
    again = http.get(first.headers["content-location"])
    assert again.status_code == 200, again.text
    assert again.content == first.content
    for name in ("etag", "content-digest", "content-type", "content-location", "content-disposition"):
        assert again.headers[name] == first.headers[name]
    for name in ("order", "seed"):
        assert again.headers[f"x-nonesuch-{name}"] == first.headers[f"x-nonesuch-{name}"]
    assert again.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_again(http, workers, name):
    workers(2)
    first = http.post("/v1/batches", params={"format": name}, json={"count": 150})
    again = http.get(first.headers["content-location"])
    assert again.content == first.content and again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-type"] == first.headers["content-type"]


def test_a_large_answer_is_streamed_and_comes_again_from_another_gateway(http, make_gateway, workers):
    workers()
    url = make_gateway(buffer_bytes=1000).url
    first = httpx.post(f"{url}/v1/batches", json={"count": 200})
    again = httpx.get(url + first.headers["content-location"])
    for response in (first, again):
        assert "content-length" not in response.headers and "content-digest" not in response.headers
        assert response.headers["etag"] == first.headers["etag"]
    elsewhere = http.get(first.headers["content-location"])
    assert "content-digest" in elsewhere.headers
    assert elsewhere.content == again.content == first.content


def test_formats_have_tags_of_their_own(http, workers):
    workers()
    location = made(http, count=4, seed=1).headers["content-location"].split("?")[0]
    tags = {
        http.get(f"{location}?{query}").headers["etag"] for query in ("", "format=arrow", "codec=zstd", "codec=lz4")
    }
    assert len(tags) == 3
    assert "accept" in http.get(location).headers["vary"].lower()
    assert "vary" not in http.get(f"{location}?format=arrow").headers


def test_what_the_client_has_is_not_made_again(http, worker, recipe_id, until):
    url = f"/v1/batches/{recipe_id}?format=arrow"
    tag = http.get(url).headers["etag"]
    until(lambda: len(worker.committed) == 2)
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        response = http.get(url, headers={"If-None-Match": given})
        assert response.status_code == 304 and not response.content
        assert response.headers["etag"] == tag and "immutable" in response.headers["cache-control"]
    assert len(worker.committed) == 2
    assert http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_says_what_get_would_and_makes_nothing(http, worker, recipe_id, traces, until):
    url = f"/v1/batches/{recipe_id}"
    got = http.get(url)
    until(lambda: len(worker.committed) == 2 and not traces())
    head = http.head(url)
    assert head.status_code == 200 and not head.content
    for name in ("etag", "content-type", "cache-control", "content-disposition", "x-nonesuch-order"):
        assert head.headers[name] == got.headers[name]
    assert len(worker.committed) == 2 and not traces()
    assert http.head(f"{url}x").status_code == 404


def test_a_recipe_is_short_and_reads_back(recipe_id):
    recipe = Recipe.from_id(recipe_id)
    assert recipe.id == recipe_id and len(recipe_id) < 400
    assert (recipe.content.seed, recipe.content.count, recipe.weights) == (3, 10, ("a" * 64,))
    assert recipe.digest == Recipe.model_validate_json(recipe.text).digest


def test_a_recipe_that_is_too_long_for_a_url_has_no_location(http, workers, small):
    names = tuple(sha256(str(i).encode()).hexdigest() for i in range(4000))
    workers(generators=(small.model_copy(update={"class_names": names}),))
    quota = {name: int(name[0], 16) % 2 for name in names}
    response = http.post("/v1/batches", json={"quota": quota})
    assert response.status_code == 200, response.text[:300]
    assert "content-location" not in response.headers and "etag" in response.headers


def test_all_classes_of_imagenet_fit_in_a_url():
    labels = Balanced(classes=tuple(range(1000)))
    content = Content(generators=("biggan",), labels=labels, count=50_000, ticket_size=64)
    recipe = Recipe(content=content, weights=("a" * 64,))
    assert recipe.id is not None and Recipe.from_id(recipe.id) == recipe


def gone(response: httpx.Response) -> str:
    assert response.status_code == 410, response.text
    document = response.json()
    assert document["type"] == f"{URN}recipe-gone"
    assert response.headers["cache-control"] == "no-store"
    return document["detail"]


def test_another_generator_or_other_weights_are_gone(http, workers, small, link):
    (worker,) = workers()
    url = made(http, count=5).headers["content-location"]
    worker.stop()
    link.run(withdraw(link.keys, worker.name))
    assert http.get(url).status_code == 503
    (worker,) = workers(generators=(small.model_copy(update={"sha256": "b" * 64}),))
    assert "other weights" in gone(http.get(url))
    worker.stop()
    link.run(withdraw(link.keys, worker.name))
    workers(generators=(small.model_copy(update={"id": "another"}),))
    assert "'small'" in gone(http.get(url))


def publish(link, version: int, weights: bytes) -> None:
    header = SnapshotHeader(
        channel="teacher", version=version, architecture="resnet18", image_shape=(4, 4, 1), classes=3,
        class_names=("ant", "bee", "cat"), mean=(0.5,), std=(0.5,), epoch=0, step=0, sha256=sha256(weights).hexdigest(),
    )  # fmt: skip
    link.run(snapshots.publish(link.keys, header, weights, keep=1))


def test_a_classifier_that_is_not_kept_is_gone(http, workers, link):
    workers()
    publish(link, 0, b"one")
    first = made(http, count=5, strategy="choosy", teacher={"channel": "teacher"})
    assert http.get(first.headers["content-location"]).content == first.content
    publish(link, 1, b"two")
    assert "not kept" in gone(http.get(first.headers["content-location"]))
    link.run(snapshots.drop_channel(link.keys, "teacher"))
    publish(link, 0, b"three")
    assert "other weights" in gone(http.get(first.headers["content-location"]))


def changed(recipe_id: str, **change: object) -> str:
    document = unpacked(recipe_id)
    document["content"].update(change)
    return packed(document)


HOSTILE = {
    "no version": lambda r: r.removeprefix(VERSION),
    "another version": lambda r: "r2." + r.removeprefix(VERSION),
    "nothing in it": lambda r: VERSION,
    "cut off": lambda r: r[:-9],
    "a letter changed": lambda r: r[:30] + ("A" if r[30] != "A" else "B") + r[31:],
    "more after it": lambda r: packed(zlib.decompress(urlsafe_b64decode(r[3:] + "==")) + b" {}"),
    "not base64": lambda r: VERSION + "%C3%BC" + r[3:],
    "too long": lambda r: VERSION + "A" * MAX_ID,
    "a bomb": lambda r: packed(b" " * 50 * MAX_TEXT),
    "not JSON": lambda r: packed(b"{"),
    "not text": lambda r: packed(b"\xff\xfe"),
    "deep": lambda r: packed(b"[" * 60_000),
    "deep parameters": lambda r: changed(r, params={"x": json.loads("[" * 100 + "]" * 100)}),
    "a list": lambda r: packed([1]),
    "nothing ordered": lambda r: packed({"weights": ["a" * 64]}),
    "another field": lambda r: changed(r, priority="interactive"),
    "a deadline": lambda r: changed(r, deadline=1.0),
    "a sink": lambda r: changed(r, sink="reply-x"),
    "no images": lambda r: changed(r, count=0),
    "too many images": lambda r: changed(r, count=200_000),
    "labels that differ from the count": lambda r: changed(r, labels={"kind": "quota", "counts": {"0": 3}}),
    "a class that there is not": lambda r: changed(r, labels={"kind": "balanced", "classes": [7]}),
    "a seed below 0": lambda r: changed(r, seed=-1),
    "a strategy that there is not": lambda r: changed(r, strategy="magic"),
    "a parameter that cannot be": lambda r: changed(r, params={"sigma": -1}),
    "NaN": lambda r: packed(json.dumps(unpacked(changed(r, params={"sigma": float("nan")}))).encode()),
    "half of a surrogate pair": lambda r: changed(r, params={"x": "\ud800"}),
    "the latest snapshot": lambda r: changed(r, snapshot={"channel": "default", "version": "latest"}),
    "a path": lambda r: changed(r, generators=["../../etc/passwd"]),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_an_id_that_nobody_made_is_not_found(http, recipe_id, traces, until, change):
    until(lambda: not traces())
    response = http.get(f"/v1/batches/{HOSTILE[change](recipe_id)}")
    assert response.status_code == 404, response.text
    assert response.json()["type"] == f"{URN}recipe-not-found"
    assert len(response.text) < 4000
    assert not traces()


def test_a_recipe_of_an_earlier_schema_is_gone(http, recipe_id):
    before = "r1." + recipe_id.removeprefix(VERSION)
    assert "version r1" in gone(http.get(f"/v1/batches/{before}"))


def test_tickets_of_another_size_are_gone(http, recipe_id):
    assert "another size" in gone(http.get(f"/v1/batches/{changed(recipe_id, ticket_size=1)}"))


def test_weights_that_are_not_those_of_the_generators_are_gone(http, recipe_id):
    document = unpacked(recipe_id)
    gone(http.get(f"/v1/batches/{packed({**document, 'weights': ['a' * 64, 'b' * 64]})}"))


def test_a_string_that_is_no_text_is_refused(http, workers, traces):
    workers()
    sent = r'{"count": 5, "strategy": "mined", "params": {"x": "\ud800"}}'
    response = http.post("/v1/batches", content=sent, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/params" and not traces()


def test_an_error_of_a_small_answer_is_a_problem_even_in_its_middle(http, workers, until, traces):
    workers(hook=lambda ticket: "out of luck" if ticket.number == 3 else None)
    response = http.post("/v1/batches", json={"count": 64 * 6})
    assert response.status_code == 502 and "out of luck" in response.json()["detail"]
    until(lambda: not traces())


def test_the_format_of_the_body_goes_after_that_of_the_url_and_before_accept(http, workers):
    workers()
    zstd = {"Accept": "application/vnd.apache.arrow.stream;codecs=zstd"}
    named = http.post("/v1/batches", json={"count": 4, "seed": 1, "format": "arrow"}, headers=zstd)
    assert named.headers["content-location"].endswith("?format=arrow")
    wrong = http.post("/v1/batches", json={"count": 4, "format": "gif"}, headers=zstd)
    assert wrong.status_code == 406
    right = http.post("/v1/batches?format=arrow", json={"count": 4, "format": "gif", "seed": 1}, headers=zstd)
    assert right.content == named.content
