"""The profile `obs`: Prometheus reads the gateway, whether it asks for a token or not. Grafana's dashboard and data
source are checked by tests/unit/test_observability.py."""

import json
from collections.abc import Iterator

import pytest

from tests.helpers.stack import Stack, run

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

ASK = "http://127.0.0.1:9090/api/v1/"


@pytest.fixture(scope="module", params=["", "/run/secrets/tokens.json"], ids=["anonymous", "with tokens"])
def observed(built: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    stack = Stack(settings=(("NONESUCH_GATEWAY_TOKENS", request.param),))
    image = json.loads(stack("--profile", "obs", "config", "--format", "json"))["services"]["prometheus"]["image"]
    if run("docker", "image", "inspect", image).returncode and run("docker", "pull", image, timeout=300).returncode:
        pytest.skip(f"there is no {image} here, and it cannot be fetched")
    try:
        stack.up()
        stack("--profile", "obs", "up", "--detach", "--wait", "--no-recreate", "prometheus", timeout=200)
        yield stack
    finally:
        stack("--profile", "obs", "down", "--volumes", timeout=180)


def asked(stack: Stack, what: str) -> list[dict]:
    """What Prometheus answers."""
    reply = json.loads(stack("exec", "-T", "prometheus", "wget", "-q", "-O", "-", ASK + what))
    assert reply["status"] == "success"
    return reply["data"]["groups" if what == "rules" else "result"]


def test_prometheus_sees_the_service(observed: Stack) -> None:
    observed.until(lambda: values(observed, "up{job='nonesuch'}") == ["1"], "the gateway is scraped", 60)
    observed.until(lambda: values(observed, "nonesuch_workers") == ["1"], "its worker is counted", 60)


def test_its_alerts_are_there_and_none_fires(observed: Stack) -> None:
    rules = [rule for group in asked(observed, "rules") for rule in group["rules"]]
    assert len(rules) > 10 and {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def values(stack: Stack, expression: str) -> list[str]:
    quoted = expression.replace("{", "%7B").replace("}", "%7D").replace("'", "%22").replace("=", "%3D")
    return [sample["value"][1] for sample in asked(stack, f"query?query={quoted}")]
