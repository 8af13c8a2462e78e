"""The OpenAPI document: it is valid, complete and true. What it promises, schemathesis checks with the real gateway."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import pytest
import schemathesis

from nonesuch.errors import PROBLEM, NonesuchError, problem_name
from nonesuch.snapshots import METADATA_KEY
from nonesuch.weights.layout import read_layout
from nonesuch_gateway.app import create_app
from nonesuch_gateway.document.examples import FAILURES, REQUESTS, SNAPSHOT
from nonesuch_gateway.formats import FORMATS
from nonesuch_gateway.http.problems import ANSWERS, MEDIA_TYPE, Problem
from nonesuch_gateway.recipes.requests import MintRequest
from nonesuch_gateway.settings import GatewaySettings
from nonesuch_worker.strategies.registry import strategy

HERE = Path(__file__).parent / "schemathesis"


@pytest.fixture(scope="module", params=[False, True], ids=["open to anybody", "with tokens"])
def document(request, tmp_path_factory) -> dict:
    tokens = None
    if request.param:
        tokens = tmp_path_factory.mktemp("tokens") / "tokens.json"
        tokens.write_text('{"tokens": []}')
        tokens.chmod(0o600)
    return json.loads(json.dumps(create_app(GatewaySettings(tokens=tokens)).openapi()))


@pytest.fixture(scope="module")
def operations(document) -> dict[tuple[str, str], dict]:
    return {(method, path): each for path, some in document["paths"].items() for method, each in some.items()}


def test_the_document_is_valid(document):
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_references_lead_somewhere_and_nothing_is_left_over(document):
    text = json.dumps(document)
    for kind, parts in document["components"].items():
        for name in parts:
            assert kind == "securitySchemes" or f'"#/components/{kind}/{name}"' in text, f"{kind} {name} is not used"
    for reference in set(text.split('"$ref": "')[1:]):
        _, _, kind, name = reference.split('"')[0].split("/")
        assert name in document["components"][kind]


def test_every_operation_is_described(document, operations):
    tags = {tag["name"] for tag in document["tags"]}
    for key, operation in operations.items():
        assert operation["summary"] and operation["description"], key
        assert set(operation["tags"]) <= tags, key
        for status, response in operation["responses"].items():
            assert "X-Request-Id" in response["headers"], (key, status)
            if int(status) >= 400:
                examples = response["content"][MEDIA_TYPE]["examples"]
                assert examples, (key, status)
                for example in examples.values():
                    assert Problem.model_validate(example["value"]).status == int(status), (key, status)


def test_every_parameter_and_field_of_a_request_is_described(document, operations):
    fields = document["components"]["schemas"]["MintRequest"]["properties"]
    assert fields.keys() == MintRequest.model_fields.keys() and all(f["description"] for f in fields.values())
    assert fields["seed"]["anyOf"][0] == {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**63}
    for operation in operations.values():
        for parameter in operation.get("parameters", []):
            assert "null" not in json.dumps(parameter["schema"]) or parameter["in"] == "header"


def test_the_errors_of_the_examples_have_the_status_that_they_are_answered_with(operations):
    for failure in FAILURES:
        if failure.kind is not None:
            answer = next(ANSWERS[kind] for kind in failure.kind.__mro__ if kind in ANSWERS)
            assert answer.status == failure.status, failure
            assert issubclass(failure.kind, NonesuchError)
    types = {
        example["value"]["type"]
        for operation in operations.values()
        for response in operation["responses"].values()
        for example in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).values()
    }
    unless = () if "401" in operations["get", "/v1/stats"]["responses"] else (401, 403)
    assert types >= {PROBLEM + problem_name(f.kind) for f in FAILURES if f.kind and f.status not in unless}


def test_there_is_a_request_for_each_strategy(operations):
    strategies = {found.name for found in entry_points(group="nonesuch.strategies")}
    assert {MintRequest.model_validate(body).strategy for body in REQUESTS.values()} == strategies
    for body in REQUESTS.values():
        request = MintRequest.model_validate(body)
        chosen = strategy(request.strategy)
        chosen.Params.model_validate(request.params)
        assert (request.snapshot is not None) >= chosen.needs_snapshot
        assert (request.teacher is not None) >= chosen.needs_teacher
    for path in ("/v1/batches", "/v1/orders"):
        content = operations["post", path]["requestBody"]["content"]["application/json"]
        assert [each["value"] for each in content["examples"].values()] == list(REQUESTS.values())


def test_the_snapshot_of_the_example_can_be_published(http):
    payload = SNAPSHOT.encode("latin-1")
    assert METADATA_KEY in read_layout(payload).metadata
    assert http.put("/v1/snapshots/1?channel=example", content=payload).status_code == 201


@pytest.mark.parametrize("name", FORMATS)
def test_the_example_of_a_format_is_how_its_files_begin(http, workers, operations, name):
    workers()
    media_type = FORMATS[name].media_type
    for key in (("post", "/v1/batches"), ("get", "/v1/batches/{recipe_id}"), ("get", "/v1/orders/{order_id}/results")):
        example = operations[key]["responses"]["200"]["content"][media_type]["examples"][name]
        assert example["summary"]
    made = http.post("/v1/batches", params={"format": name}, json={"count": 3}).content
    if name == "json":
        assert json.loads(made).keys() == example["value"].keys()
        assert json.loads(made)["data"][0].keys() == example["value"]["data"][0].keys()
    else:
        assert made.startswith(bytes.fromhex(example["value"])) and len(example["value"]) >= 11


def test_a_url_that_is_asked_in_another_way_says_in_which_ways_it_can_be(http):
    for path, allowed in {
        "/v1/batches": "POST",
        "/v1/batches/x": "GET, HEAD",
        "/v1/orders": "POST",
        "/v1/orders/x": "DELETE, GET, HEAD",
        "/v1/orders/x/results": "GET, HEAD",
        "/v1/snapshots": "GET",
        "/v1/snapshots/latest": "GET, HEAD",
        "/v1/snapshots/3": "GET, HEAD, PUT",
        "/v1/generators/x": "GET, HEAD",
        "/v1/stats": "GET, HEAD",
        "/healthz": "GET, HEAD",
    }.items():
        refused = http.request("PATCH", path)
        assert refused.status_code == 405 and refused.headers["allow"] == allowed, path


@pytest.mark.parametrize(
    "path", ["generators", "generators/small", "strategies", "acceptance", "stats", "../healthz", "../readyz"]
)
def test_head_says_what_get_would(http, workers, path):
    workers()
    head, got = http.head(f"/v1/{path}"), http.get(f"/v1/{path}")
    assert head.status_code == got.status_code == 200 and not head.content
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "stats":  # whose numbers change
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_body_that_names_something_twice_is_refused_with_its_place(http):
    sent = b'{"count": 1, "params": {"list": [0, {"a": 1, "b": 2, "b": 3}]}}'
    response = http.post("/v1/batches", content=sent, headers={"Content-Type": "application/json"})
    assert response.status_code == 422 and "'b' twice" in response.json()["detail"]
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/params/list/1/b"]


def test_schemathesis_finds_nothing(make_gateway, workers, tmp_path):
    """In its own process and folder: it keeps caches where it runs, and its warnings are not ours."""
    workers(2)
    url = make_gateway(max_orders=4096).url
    folder = shutil.copytree(HERE, tmp_path / "schemathesis")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "--no-color"]
    ran = subprocess.run([*command, f"{url}/openapi.json"], cwd=folder, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    operations = sum(len(some) for some in httpx.get(f"{url}/openapi.json").json()["paths"].values())
    assert f"{operations} selected / {operations} total" in ran.stdout
    assert f"Tested: {operations}" in ran.stdout
