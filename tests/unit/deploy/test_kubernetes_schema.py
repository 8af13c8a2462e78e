"""Kubernetes would take the manifests: each object is what its kind's schema says, with no field that is not in it."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from tests.helpers.manifests import EVERYTHING, FOLDER, Object, load

OLDEST, NEWEST = "1.29", "1.37"
"""What docs/kubernetes.md promises, and what was newest when the schemas were pinned."""
SCHEMAS = {
    kind: json.loads((Path(__file__).parent / f"kubernetes_schemas/{kind.lower()}.json").read_text())
    for kind in ("RayCluster", "PodMonitor")
}


def parts(cluster: Object) -> Iterator[Object]:
    """What in a RayCluster is Kubernetes' own, each in an object that its schemas know."""
    spec = cluster["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
    options = spec["autoscalerOptions"]
    container = {"name": "autoscaler"} | {k: options[k] for k in ("resources", "securityContext", "volumeMounts")}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}


def check(thing: Object, version: str = OLDEST) -> None:
    """Raises a validation error of jsonschema."""
    if (schema := SCHEMAS.get(thing["kind"])) is None:
        kubernetes_validate.validate(thing, version, strict=True)
        return
    jsonschema.validate(thing, schema)
    if thing["kind"] == "RayCluster":
        for part in parts(thing):
            kubernetes_validate.validate(part, version, strict=True)


@pytest.mark.parametrize(("name", "version"), [("written", NEWEST), *((name, OLDEST) for name in EVERYTHING)])
def test_every_object_is_what_its_schema_says(name: str, version: str) -> None:
    objects = load(name).objects
    assert objects
    for each in objects:
        check(each, version)


def test_a_mistake_is_found_wherever_it_is() -> None:
    """Of fields that do not exist, in each kind of schema."""
    manifests = load("written")
    ray, monitor = manifests.named("RayCluster", "nonesuch"), manifests.named("PodMonitor", "gateway")
    gateway = manifests.named("Deployment", "gateway")
    for broken in (
        {**gateway, "spec": {**gateway["spec"], "replica": 2}},
        {**ray, "spec": {**ray["spec"], "autoscaling": True}},
        {**ray, "spec": {**ray["spec"], "headGroupSpec": {"template": {"spec": {"container": []}}}}},
        {**monitor, "spec": {**monitor["spec"], "podMetricsEndpoints": [{"port": "http", "interval": "often"}]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            check(broken)


def test_no_secret_is_in_the_repository() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert files
    assert not list(load("written").of("Secret"))
    assert not [path for path in files if "secretGenerator" in path.read_text() or "kind: Secret" in path.read_text()]
