"""What docker-compose.yml and the Dockerfile promise, read without Docker. tests/compose runs them for real."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from nonesuch.host.process import CPU_SETTINGS, THREADS
from nonesuch_worker.settings import OBJECT_STORE_BYTES

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
OBSERVING = {"prometheus": "127.0.0.1:9090", "grafana": "127.0.0.1:3000"}
JOBS = {"init", "trainer", "sbom"}
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
_STAGES = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
PARENT = {stage: parent for parent, stage, _ in _STAGES}
STEPS = {stage: steps for _, stage, steps in _STAGES}


def test_the_services_are_the_ones_we_know() -> None:
    assert SERVICES.keys() == {"redis", "head", "worker", "gateway"} | OBSERVING.keys() | JOBS
    assert OURS.keys() == {"head", "worker", "gateway"} | JOBS
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"trainer": ["train"], "prometheus": ["obs"], "grafana": ["obs"], "sbom": ["sbom"]}


def test_only_the_gateway_publishes_a_port_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "gateway": ["127.0.0.1:${NONESUCH_PORT:-8000}:8000"],
        "grafana": ["127.0.0.1:${NONESUCH_GRAFANA_PORT:-3000}:3000"],  # of a profile that one asks for
    }
    closed = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert closed == COMPOSE["networks"].keys() - {"outside"}
    assert {name for name, service in SERVICES.items() if set(service.get("networks", ())) - closed} == published.keys()
    assert {service["network_mode"] for service in SERVICES.values() if "network_mode" in service} == {"none"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_is_a_job(name: str) -> None:
    service = SERVICES[name]
    assert ("healthcheck" in service) != (name in JOBS)
    assert (service["restart"] == "unless-stopped") != (name in JOBS)


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"init", "sbom"}))
def test_ours_wait_for_health_and_stop_in_their_own_time(name: str) -> None:
    service = OURS[name]
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert int(service["stop_grace_period"].removesuffix("s")) > 10


def test_the_gateway_stops_before_the_workers_and_they_before_the_fleet() -> None:
    assert "worker" in SERVICES["gateway"]["depends_on"]
    assert SERVICES["worker"]["depends_on"]["head"] == {"condition": "service_healthy"}
    drain = int(SERVICES["worker"]["environment"]["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert drain < int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_may_gain_rights_write_to_its_image_or_fill_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    if name in OURS:
        assert "\nUSER nonesuch\n" in STEPS[service["build"]["target"]]
    else:
        assert service["user"] == "10001:10001"


def test_who_reads_the_secrets_is_the_user_of_our_images() -> None:
    assert "useradd --uid 10001 " in STEPS["base"]


def test_each_service_gets_its_own_secrets_and_only_to_read() -> None:
    mounts = {name: [v for v in service.get("volumes", ()) if "secrets:" in v] for name, service in SERVICES.items()}
    made = mounts.pop("init")
    mounts = {name: volumes for name, volumes in mounts.items() if volumes}
    worker = ["worker-secrets:/run/secrets:ro"]
    assert mounts.pop("head") == worker
    assert mounts == {name: [f"{name}-secrets:/run/secrets:ro"] for name in mounts}
    assert made == [f"{role}-secrets:/secrets/{role}" for role in (*ROLES,)]
    for role in ROLES:
        assert re.search(rf" secrets/{role}\b", STEPS["base"])  # whose owner a new volume takes over


ROLES = ("redis", "gateway", "worker", "trainer", "operator", "prometheus", "grafana")


def test_there_is_no_password_in_the_file_or_the_environment() -> None:
    words = re.findall(r"\b(?:\w*PASSWORD\w*|\w*TOKEN\w*): (.*)", TEXT)
    assert words
    for word in words:  # each names a file, or says how tokens are used
        assert re.match(r"(/run/secrets/|/secrets/|\$\{NONESUCH_GATEWAY_TOKENS:-\}|token$)", word), word
    assert {s["environment"]["NONESUCH_REDIS_URL"] for s in OURS.values() if s.get("networks")} == {
        "redis://redis:6379/0"
    }


def test_the_example_names_every_variable_with_its_default() -> None:
    used = dict(re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", TEXT))
    assert dict(re.findall(r"^#([A-Z_]+)=(.*)$", example(), re.MULTILINE)) == used


def test_redis_has_room_beyond_maxmemory() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert mebibytes(defaults["NONESUCH_REDIS_MEMORY"]) >= 1.5 * mebibytes(defaults["NONESUCH_REDIS_MAXMEMORY"])


def test_shared_memory_holds_rays_object_store() -> None:
    for name in ("head", "worker"):
        assert mebibytes(SERVICES[name]["shm_size"]) * 2**20 > OBJECT_STORE_BYTES
    assert f"--object-store-memory={OBJECT_STORE_BYTES} " in SERVICES["head"]["command"][0]


def mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])b?", size).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 1, "g": 1024}[unit]


def test_ray_asks_for_its_token() -> None:
    for name in ("head", "worker"):
        assert SERVICES[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert SERVICES[name]["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray.token"


def test_the_gateway_is_built_without_torch_and_all_keep_large_blocks() -> None:
    for name, value in CPU_SETTINGS.items():
        assert re.search(rf"\b{name}={re.escape(value)}(\s|$)", STEPS["base"])
    parents = {name: PARENT[service["build"]["target"]] for name, service in OURS.items() if name != "sbom"}
    assert parents == {"init": "base", "gateway": "base", "head": "torch", "worker": "torch", "trainer": "torch"}
    assert PARENT["torch"] == "base"
    assert PARENT["base"] == "python:3.11-slim-bookworm"


def test_the_label_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'org.opencontainers.image.version="{version}"' in STEPS["base"]


def test_the_number_of_threads_is_left_to_the_cores_that_a_container_gets() -> None:
    assert not [stage for stage, steps in STEPS.items() if re.search(rf"\b{THREADS}=", steps)]
    assert not [name for name, service in OURS.items() if THREADS in service.get("environment", ())]


def test_the_trainer_runs_a_config_that_exists() -> None:
    command = SERVICES["trainer"]["command"]
    assert command[0] == "train"
    default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", command[1])
    assert (ROOT / "trainer" / default).is_file()


@pytest.mark.parametrize("name", ["gpu", "tls"])
def test_the_overrides_change_services_that_exist(name: str) -> None:
    text = (ROOT / f"deploy/compose.{name}.yml").read_text().replace("!override", "")
    assert yaml.safe_load(text)["services"].keys() <= SERVICES.keys()


def test_what_is_mounted_from_here_is_here() -> None:
    folders = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ()) if v.startswith("./")]
    assert folders
    assert not [folder for folder in folders if not (ROOT / folder).exists()]


def example() -> str:
    return (ROOT / "deploy/compose.env.example").read_text()
