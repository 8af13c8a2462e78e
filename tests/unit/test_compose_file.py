"""What docker-compose.yml and the Dockerfile promise, read without Docker. tests/compose runs them for real."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nonesuch.process import CPU_SETTINGS, THREADS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
_STAGES = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
PARENT = {stage: parent for parent, stage, _ in _STAGES}
STEPS = {stage: steps for _, stage, steps in _STAGES}


def test_the_services_are_the_ones_we_know() -> None:
    assert SERVICES.keys() == {"redis", "worker", "gateway", "trainer"}
    assert OURS.keys() == {"worker", "gateway", "trainer"}


def test_only_the_gateway_publishes_a_port_and_only_to_this_machine() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:${NONESUCH_PORT:-8000}:8000"]
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]
    closed = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert [name for name, service in SERVICES.items() if set(service["networks"]) - closed] == ["gateway"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_is_a_job(name: str) -> None:
    service = SERVICES[name]
    is_job = bool(service.get("profiles")) and service["restart"] == "no"
    assert ("healthcheck" in service) != is_job


@pytest.mark.parametrize("name", OURS)
def test_ours_wait_for_health_and_stop_in_their_own_time(name: str) -> None:
    service = OURS[name]
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert {wait["condition"] for wait in service["depends_on"].values()} == {"service_healthy"}
    assert service["init"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) > 10


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if name in OURS:
        assert "\nUSER nonesuch\n" in STEPS[service["build"]["target"]]
    else:
        assert service["user"] == "redis"


def test_there_is_no_default_password() -> None:
    wholes = re.findall(r"(?<!\$)\$\{NONESUCH_REDIS_PASSWORD[^}]*\}", TEXT)
    assert wholes
    assert all(whole.startswith("${NONESUCH_REDIS_PASSWORD:?") for whole in wholes)  # unset and empty are refused
    urls = {service["environment"]["NONESUCH_REDIS_URL"] for service in OURS.values()}
    assert {re.sub(r"\$\{[^}]*\}", "PASSWORD", url) for url in urls} == {"redis://:PASSWORD@redis:6379/0"}
    assert "\nNONESUCH_REDIS_PASSWORD=\n" in example()


def test_the_example_names_every_variable_with_its_default() -> None:
    used = dict(re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", TEXT))
    assert dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example(), re.MULTILINE)) == used


def test_the_gateway_is_built_without_torch_and_the_others_keep_large_blocks() -> None:
    for name, value in CPU_SETTINGS.items():
        assert re.search(rf"\b{name}={re.escape(value)}(\s|$)", STEPS["torch"])
    parents = {name: PARENT[service["build"]["target"]] for name, service in OURS.items()}
    assert parents == {"gateway": "base", "worker": "torch", "trainer": "torch"}
    assert PARENT["torch"] == "base"
    assert PARENT["base"] == "python:3.11-slim-bookworm"


def test_the_number_of_threads_is_left_to_the_cores_that_a_container_gets() -> None:
    assert not [stage for stage, steps in STEPS.items() if re.search(rf"\b{THREADS}=", steps)]
    assert not [name for name, service in OURS.items() if THREADS in service["environment"]]


def test_the_trainer_runs_a_config_that_exists() -> None:
    command = SERVICES["trainer"]["command"]
    assert command[0] == "train"
    default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command[1])
    assert (ROOT / "trainer" / default).is_file()


def example() -> str:
    return (ROOT / "deploy/compose.env.example").read_text()
