"""The client against answers that are written down: retries, errors, and what it sends. Nobody sleeps."""

import asyncio
import inspect
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

import nonesuch
from nonesuch import errors
from nonesuch.offers import GeneratorInfo
from nonesuch.schema import Rows, make_batch

INFO = GeneratorInfo(
    id="small", family="fake", sha256="a" * 64, image_shape=(4, 4, 1), class_names=("ant", "bee"), z_dim=2
)
HEADERS = {
    "Content-Type": "application/vnd.apache.arrow.stream",
    "X-Nonesuch-Order": "f" * 32,
    "Content-Location": "/v1/batches/r1.abc?format=arrow",
}


def record_batch(start: int, stop: int) -> pa.RecordBatch:
    indices = np.arange(start, stop)
    images = np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (stop - start, 4, 4, 1))
    rows = Rows(images, (indices % 2).astype(np.int32), indices, np.zeros(stop - start, np.int32), sigma=1.0)
    return make_batch(rows, order="f" * 32, seed=7, strategy="random", generators=[INFO])


def arrow(*sizes: int) -> bytes:
    """A stream of batches of so many rows."""
    sink = pa.BufferOutputStream()
    stops = np.cumsum(sizes)
    with pa.ipc.new_stream(sink, record_batch(0, 1).schema) as writer:
        for size, stop in zip(sizes, stops, strict=True):
            writer.write_batch(record_batch(int(stop) - size, int(stop)))
    return sink.getvalue().to_pybytes()


class CutOff(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


Answer = httpx.Response | Exception


@dataclass
class Service:
    """Answers the first request with the first answer, and so on; keeps what it was asked, and the pauses."""

    kind: str
    asked: list[httpx.Request] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __call__(self, *answers: Answer, **settings: Any) -> Callable[[Callable[[Any], Any]], Any]:
        """`service(answer, ...)(lambda client: client.mint(3))`: what the call comes to."""
        left = list(answers)

        def answer(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            found = left.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        async def run_async(call: Callable[[Any], Any]) -> Any:
            async def sleep(seconds: float) -> None:
                self.pauses.append(seconds)

            transport = httpx.MockTransport(answer)
            async with nonesuch.AsyncClient("http://gw", transport=transport, sleep=sleep, **settings) as client:
                came = call(client)
                return [batch async for batch in came] if hasattr(came, "__aiter__") else await came

        def run(call: Callable[[Any], Any]) -> Any:
            if self.kind == "async":
                return asyncio.run(run_async(call))
            transport = httpx.MockTransport(answer)
            with nonesuch.Client("http://gw", transport=transport, sleep=self.pauses.append, **settings) as client:
                came = call(client)
                return list(came) if hasattr(came, "__next__") else came

        def both(call: Callable[[Any], Any]) -> Any:
            came = run(call)
            assert not left, f"{len(left)} answers were not asked for"
            return came

        return both

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.asked]


@pytest.fixture(params=["blocking", "async"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    for name in ("NONESUCH_URL", "NONESUCH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Service(request.param)


def images(*sizes: int, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=arrow(*sizes), headers={**HEADERS, **headers})


def problem(status: int, name: str, detail: str = "why", **headers: str) -> httpx.Response:
    document = {"type": f"urn:nonesuch:problem:{name}", "title": name, "status": status, "detail": detail}
    given = {"Content-Type": "application/problem+json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return httpx.Response(status, content=json.dumps(document), headers=given)


def test_mint_is_one_batch_of_all_tickets(service):
    batch = service(images(3, 3, 1))(lambda client: client.mint(7, seed=7))
    assert len(batch) == 7 and batch.seed == 7 and batch.recipe == "r1.abc" and batch.order == "f" * 32
    assert batch.images[:, 0, 0, 0].tolist() == list(range(7))


def test_stream_gives_each_ticket_as_it_is(service):
    batches = service(images(3, 3, 1))(lambda client: client.stream(7))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [batch.indices[0] for batch in batches] == [0, 3, 6]


def test_everything_that_is_asked_for_is_in_the_body(service):
    service(images(1))(
        lambda client: client.mint(
            np.int64(64), classes=["ant", np.int32(1)], generator="g", strategy="hsm", params={"steps": 3}, sigma=1.5,
            eta=np.float32(0.5), seed=11, snapshot="latest", channel="mine", teacher="t@4", deadline=9,
        )
    )  # fmt: skip
    (request,) = service.asked
    assert (request.method, request.url.path) == ("POST", "/v1/batches")
    assert request.headers["accept"] == "application/vnd.apache.arrow.stream"
    assert service.bodies() == [
        {
            "count": 64, "classes": ["ant", 1], "generator": "g", "strategy": "hsm",
            "params": {"steps": 3, "sigma": 1.5, "eta": 0.5}, "seed": 11, "snapshot": "latest", "channel": "mine",
            "teacher": {"channel": "t", "version": 4}, "deadline_s": 9,
        }
    ]  # fmt: skip
    assert request.extensions["timeout"]["read"] == 30 + 9 and request.extensions["timeout"]["connect"] == 30


def test_an_attempt_asks_for_the_same_images_under_the_same_key(service):
    service(problem(429, "busy"), httpx.ConnectError("refused"), images(2))(lambda client: client.mint(2))
    first, *others = service.bodies()
    assert 0 <= first["seed"] < 2**53 and others == [first, first]
    assert len({request.headers["idempotency-key"] for request in service.asked}) == 1
    service(images(2))(lambda client: client.mint(2))
    assert service.bodies()[-1]["seed"] != first["seed"]
    assert service.asked[-1].headers["idempotency-key"] != service.asked[0].headers["idempotency-key"]


def test_pauses_grow_and_are_never_shorter_than_the_service_asks_for(service, caplog):
    service(
        problem(503, "unreachable"), problem(503, "no-workers", Retry_After="10"), problem(429, "busy"), images(1)
    )(lambda client: client.mint(1))  # fmt: skip
    first, second, third = service.pauses
    assert 0.25 <= first <= 0.5 and second == 10 and 1 <= third <= 2
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["why"] * 3


def test_a_date_is_a_retry_after_too(service):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    service(problem(503, "no-workers", Retry_After=soon), images(1))(lambda client: client.mint(1))
    assert 15 < service.pauses[0] <= 20


def test_a_service_that_wants_peace_for_long_has_its_error_raised(service):
    with pytest.raises(errors.RateLimited, match="why") as raised:
        service(problem(429, "rate-limited", Retry_After="3600"))(lambda client: client.mint(1))
    assert raised.value.retry_after_s == 3600 and not service.pauses


def test_the_last_error_is_raised_when_no_attempt_is_left(service):
    refused = [httpx.ConnectError("[Errno 111] Connection refused")] * 3
    with pytest.raises(errors.Unreachable, match=r"no answer from http://gw/v1/stats: .*refused.*Is the gateway run"):
        service(*refused, retries=2)(lambda client: client.stats())
    assert len(service.pauses) == 2


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [(502, "order-failed", errors.OrderFailed), (504, "take-timeout", errors.TakeTimeout),
     (422, "invalid-order", errors.InvalidOrder), (409, "conflict", errors.Conflict)],
)  # fmt: skip
def test_what_would_come_to_the_same_is_not_tried_again(service, status, name, kind):
    call = (lambda client: client.stats()) if status == 409 else (lambda client: client.mint(1))
    with pytest.raises(kind, match="why"):
        service(problem(status, name))(call)
    assert not service.pauses


def test_an_attempt_that_the_gateway_has_not_given_up_yet_is_waited_for(service):
    answers = httpx.ReadError("reset"), problem(409, "conflict"), images(2)
    assert len(service(*answers)(lambda client: client.mint(2))) == 2


def test_a_stream_that_is_cut_off_goes_on_where_it_was(service):
    data = arrow(3, 3, 3, 1)
    cut = httpx.Response(200, stream=CutOff(data[:2000], data[2000 : len(data) * 2 // 3]), headers=HEADERS)
    batches = service(cut, images(3, 3, 3, 1))(lambda client: client.stream(10))
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(10))
    assert len(service.pauses) == 1


def test_a_stream_without_its_end_is_cut_off_even_if_nobody_says_so(service):
    short = httpx.Response(200, content=arrow(3, 3)[:-8], headers=HEADERS)
    with pytest.raises(errors.Unreachable, match="ends after 2 batches"):
        service(short, retries=0)(lambda client: client.mint(6))


def test_results_that_are_cut_off_are_not_asked_for_again_once_some_have_come(service, tmp_path):
    data = arrow(3, 3, 1)
    cut = httpx.Response(200, stream=CutOff(data[:-100]), headers=HEADERS)
    with pytest.raises(errors.Unreachable, match=r"broke off after 2 batches.*with its seed"):
        service(cut)(lambda client: client.order_results("a.b"))
    with pytest.raises(errors.Unreachable, match=r"broke off after 4 bytes.*with its seed"):
        service(httpx.Response(200, stream=CutOff(b"lost")))(
            lambda client: client.export_order("a.b", tmp_path / "x.zip")
        )
    assert not list(tmp_path.iterdir()) and not service.pauses
    begun = httpx.Response(200, stream=CutOff(data[:10]), headers=HEADERS)
    batches = service(begun, images(3, 3, 1))(lambda client: client.order_results("a.b"))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert {str(request.url) for request in service.asked[-2:]} == {"http://gw/v1/orders/a.b/results"}


def test_it_does_not_go_on_with_images_of_another_recipe(service):
    data = arrow(3, 3, 1)
    cut = httpx.Response(200, stream=CutOff(data[:-100]), headers=HEADERS)
    with pytest.raises(errors.Conflict, match="replaced meanwhile"):
        service(cut, images(3, 3, 1, **{"X-Nonesuch-Order": "0" * 32}))(lambda client: client.stream(7))


def test_an_answer_that_was_damaged_is_asked_for_again(service):
    data = arrow(2)
    digest = f"sha-256=:{b64encode(sha256(data).digest()).decode()}:"
    damaged = data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]
    bad = httpx.Response(200, content=damaged, headers={**HEADERS, "Content-Digest": digest})
    good = images(2, **{"Content-Digest": digest})
    assert len(service(bad, good)(lambda client: client.mint(2))) == 2
    bad = httpx.Response(200, content=damaged, headers={**HEADERS, "Content-Digest": digest})
    with pytest.raises(errors.IntegrityError, match="damaged"):
        service(bad, retries=0)(lambda client: client.mint(2))


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (httpx.Response(502, text="<h1>Bad Gateway</h1>"), errors.Unreachable, "answered 502: <h1>Bad"),
        (httpx.Response(404, json={"detail": "no"}), errors.NotFound, "answered 404"),
        (httpx.Response(301, headers={"location": "https://gw/"}), errors.InvalidValue, "from https://gw/: give that"),
        (httpx.Response(418), errors.InvalidValue, "answered 418"),
        (httpx.Response(401), errors.Unauthorised, "answered 401"),
        (httpx.Response(500), errors.ServiceError, "answered 500"),
        (httpx.Response(200, json={"nonsense": 1}), errors.IntegrityError, "install the version that the gateway has"),
    ],
)
def test_answers_that_are_not_the_gateways_have_errors_too(service, response, kind, words):
    with pytest.raises(kind) as raised:
        service(httpx.Response(response.status_code, content=response.content, headers=response.headers), retries=0)(
            lambda client: client.generators()
        )
    assert words in str(raised.value) and type(raised.value) is kind


def test_a_page_of_somebody_else_is_not_asked_for_again(service):
    page = httpx.Response(200, html="<h1>Welcome to nginx</h1>")
    with pytest.raises(
        errors.InvalidValue, match=r"http://gw/v1/batches answers with text/html.*the URL of a Nonesuch"
    ):
        service(page)(lambda client: client.mint(3))


def test_an_export_is_whole_or_not_there(service, tmp_path):
    path, told = tmp_path / "new" / "images.tar", []
    headers = {"X-Nonesuch-Seed": "7", "X-Nonesuch-Order": "f" * 32}
    answers = [
        httpx.Response(200, stream=CutOff(b"lost"), headers=headers),
        httpx.Response(200, content=b"a tar", headers=headers),
    ]
    done = service(*answers)(lambda client: client.export(path, 5, on_bytes=lambda *now: told.append(now)))
    assert (done.path, done.bytes, done.seed, done.order) == (path, 5, 7, "f" * 32)
    assert path.read_bytes() == b"a tar" and list(path.parent.iterdir()) == [path]
    assert told == [(4, None), (5, 5)]
    assert {request.url.params["format"] for request in service.asked} == {"webdataset"}
    with pytest.raises(errors.InvalidValue, match=r"images\.tar exists"):
        service()(lambda client: client.export(path, 5))
    with pytest.raises(errors.Unreachable, match="cut off"):
        service(httpx.Response(200, stream=CutOff(b"lost")), retries=0)(
            lambda client: client.export(tmp_path / "b.png", 5)
        )
    with pytest.raises(errors.InvalidValue, match=r"ends in none of \.arrows, "):
        service()(lambda client: client.export(tmp_path / "c.gif", 5))
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sigma": 1.0, "params": {"sigma": 2.0}}, "sigma is given twice"),
        ({"sigma": float("nan")}, "params {'sigma': nan} cannot be sent as JSON"),
        ({"classes": [object()]}, "cannot be sent as JSON: object is no number"),
        ({"classes": {"ant", "bee"}}, "cannot be sent as JSON: set is no number"),
        ({"teacher": "a@b@c"}, "not of the form channel"),
        ({"deadline": "soon"}, "deadline 'soon' is no number"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is(service, asked, words):
    with pytest.raises(errors.InvalidValue) as raised:
        service()(lambda client: client.mint(3, **asked))
    assert words in str(raised.value)


def test_the_token_is_sent_and_shown_nowhere(service):
    service(images(1), token="nsk_a_secret")(lambda client: client.mint(1))
    assert service.asked[0].headers["authorization"] == "Bearer nsk_a_secret"
    service(images(1))(lambda client: client.mint(1))
    assert "authorization" not in service.asked[1].headers
    assert "secret" not in repr(nonesuch.Client(token="nsk_a_secret").settings)
    for bad in ({"token": "nsk_secret\n"}, {"url": "http://me:secret@gw"}):
        with pytest.raises(errors.InvalidValue) as raised:
            nonesuch.Client(**bad)
        assert "secret" not in str(raised.value)


def test_settings_are_those_given_then_the_environment_then_the_defaults(monkeypatch):
    monkeypatch.setenv("NONESUCH_URL", "http://named:9/")
    monkeypatch.setenv("NONESUCH_TOKEN", "nsk_x")
    named = nonesuch.Client(timeout=3, retries=0).settings
    assert (named.url, named.timeout_s, named.retries) == ("http://named:9", 3, 0)
    assert named.token is not None and named.token.get_secret_value() == "nsk_x"
    assert nonesuch.Client("https://given").settings.url == "https://given"
    monkeypatch.setenv("NONESUCH_URL", "")
    assert nonesuch.Client().settings.url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "bad", [{"url": "gateway:8000"}, {"url": "http://"}, {"url": "http://gw?x=1"}, {"timeout": 0}, {"retries": -1}]
)
def test_settings_that_cannot_be_used_are_refused(bad):
    with pytest.raises(errors.InvalidValue, match=next(iter(bad))):
        nonesuch.Client(**bad)


def test_a_request_that_cannot_have_a_key_is_made_without_one(service):
    document = {
        "type": "urn:nonesuch:problem:invalid-value",
        "detail": "too long",
        "errors": [{"pointer": "#/Idempotency-Key"}],
    }
    refused = httpx.Response(422, content=json.dumps(document), headers={"Content-Type": "application/problem+json"})
    assert len(service(refused, images(2))(lambda client: client.mint(2))) == 2
    assert ["idempotency-key" in request.headers for request in service.asked] == [True, False]
    assert service.bodies()[0] == service.bodies()[1] and not service.pauses


@pytest.mark.parametrize("client", [nonesuch.Client, nonesuch.AsyncClient])
def test_help_and_completion_know_every_keyword(client):
    for call in (client.mint, client.stream, client.export):
        names = set(inspect.signature(call).parameters)
        assert {"count", "classes", "quota", "strategy", "sigma", "seed", "snapshot", "teacher", "deadline"} <= names
        assert call.__doc__
    assert inspect.signature(client.mint).return_annotation is nonesuch.Batch
    assert list(inspect.signature(client("http://gw").again).parameters) == ["recipe"]


def test_both_clients_have_the_same_calls():
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert public(nonesuch.Client) == public(nonesuch.AsyncClient)
    for name in public(nonesuch.Client):
        assert getattr(nonesuch.Client, name).__doc__ == getattr(nonesuch.AsyncClient, name).__doc__
