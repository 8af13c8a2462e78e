"""`docker compose up` on a real engine: what answers, what is closed, who runs as whom, and what stays behind.

The stack has a project name, a password and a port of its own, so that one that is already running is left alone.
`NONESUCH_COMPOSE_OVERRIDE` names a further compose file, for machines that cannot build without one (docs/docker.md).
The tests share one stack; the last one takes it down.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]  # whichever test is first waits for the build

ROOT = Path(__file__).parents[2]
PROJECT = "nonesuch-test"
PASSWORD = secrets.token_hex(32)
RUNNING = ("redis", "worker", "gateway")
FAMILY = ["fashion-mnist", "fashion-mnist-concat", "fashion-mnist-s1"]
"""What ships with the package."""


def run(*command: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **env})


def out(*command: str, timeout: float = 60) -> str:
    done = run(*command, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Stack:
    """One project of docker compose."""

    password: str = PASSWORD

    def try_(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`; the settings of this machine's .env do not count."""
        files = [str(ROOT / "docker-compose.yml"), os.environ.get("NONESUCH_COMPOSE_OVERRIDE")]
        options = [option for file in files if file for option in ("--file", file)]
        options += ["--project-name", PROJECT, "--env-file", os.devnull]
        settings = {"NONESUCH_REDIS_PASSWORD": self.password, "NONESUCH_PORT": "0"}
        return run("docker", "compose", *options, *arguments, timeout=timeout, **settings)

    def __call__(self, *arguments: str, timeout: float = 120) -> str:
        """What `docker compose` prints. Fails with its last words and those of the containers."""
        done = self.try_(*arguments, timeout=timeout)
        if done.returncode:
            logs = self.try_("logs", "--no-color", "--tail", "30").stdout
            pytest.fail(f"docker compose {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n{logs}")
        return done.stdout

    def down(self) -> None:
        self("--profile", "train", "down", "--volumes", "--remove-orphans", timeout=180)

    def container(self, service: str) -> str:
        return self("ps", "--quiet", service).strip()

    @property
    def url(self) -> str:
        return "http://" + self("port", "gateway", "8000").strip()

    def ready(self) -> dict[str, object]:
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=30) as reply:
            assert reply.status == 200
            return json.loads(reply.read())

    def mint(self, **request: object) -> bytes:
        body, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/batches", body, kind), timeout=60) as reply:
            assert reply.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
            return reply.read()


@pytest.fixture(scope="module")
def engine() -> None:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command: install Docker Engine with the compose plugin")
    if (done := run("docker", "info")).returncode:
        pytest.skip(f"no Docker engine answers: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    if run("docker", "compose", "version").returncode:
        pytest.skip("docker has no compose plugin: install it (docker-compose-plugin)")


@pytest.fixture(scope="module")
def stack(engine: None) -> Iterator[Stack]:
    """The service, built and running."""
    stack = Stack()
    stack.down()  # what a run that was killed left behind
    try:
        stack("--profile", "train", "build", timeout=2000)
        stack("up", "--detach", "--wait", "--wait-timeout", "150", timeout=200)
        yield stack
    finally:
        stack("--profile", "train", "down", "--volumes", "--remove-orphans", "--rmi", "local", timeout=180)


def test_it_is_ready_and_mints_with_the_embedded_generator(stack: Stack) -> None:
    assert stack.ready() == {"status": "ready", "workers": 1, "generators": FAMILY}
    table = pa.ipc.open_stream(stack.mint(count=256, seed=7)).read_all()
    assert table.num_rows == 256
    assert table.column("index").to_pylist() == list(range(256))
    assert table.schema.field("image").type.shape == [28, 28, 1]
    assert set(table.column("label").to_pylist()) == set(range(10))


def test_two_worker_containers_make_the_same_bytes_as_one(stack: Stack) -> None:
    alone = stack.mint(count=1000, seed=3)
    stack("up", "--detach", "--wait", "--wait-timeout", "150", "--no-recreate", "--scale", "worker=2", timeout=200)
    assert stack.ready()["workers"] == 2
    assert stack.mint(count=1000, seed=3) == alone
    stack("up", "--detach", "--wait", "--no-recreate", "--scale", "worker=1")


def test_only_the_gateway_can_be_reached_from_outside(stack: Stack) -> None:
    published = {}
    for service in RUNNING:
        ports = json.loads(
            out("docker", "inspect", "--format", "{{json .NetworkSettings.Ports}}", stack.container(service))
        )
        published[service] = {binding["HostIp"] for bindings in ports.values() for binding in bindings or ()}
    assert published == {"redis": set(), "worker": set(), "gateway": {"127.0.0.1"}}
    assert not is_our_redis(6379)  # something else may listen there
    assert out("docker", "network", "inspect", "--format", "{{.Internal}}", f"{PROJECT}_inside").strip() == "true"


def is_our_redis(port: int) -> bool:
    """Whether a port of this machine answers to our password."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"AUTH {PASSWORD}\r\n".encode())
            return connection.recv(100).startswith(b"+OK")
    except OSError:
        return False


def test_redis_asks_for_the_password_and_shows_it_in_no_list_of_processes(stack: Stack) -> None:
    assert "NOAUTH" in stack("exec", "-T", "redis", "redis-cli", "ping")
    for service in RUNNING:
        assert PASSWORD not in out("docker", "top", stack.container(service), "-eo", "pid,args")


@pytest.mark.parametrize("service", RUNNING)
def test_no_process_is_root(stack: Stack, service: str) -> None:
    _, *processes = out("docker", "top", stack.container(service), "-eo", "pid,uid,comm").splitlines()
    assert len(processes) >= 2  # init and ours
    assert [process for process in processes if process.split()[1] == "0"] == []


def test_the_gateway_image_has_neither_torch_nor_ray(stack: Stack) -> None:
    code = "from importlib.util import find_spec as f; print([m for m in ('torch', 'ray', 'fastapi') if f(m)])"
    assert stack("exec", "-T", "gateway", "python", "-c", code).strip() == "['fastapi']"


def test_no_image_has_a_compiler(stack: Stack) -> None:
    for service in ("gateway", "worker", "trainer"):
        tools = (
            "run",
            "--rm",
            "-T",
            "--no-deps",
            "--entrypoint",
            "sh",
            service,
            "-c",
            "command -v cc gcc make git; id -u",
        )
        assert stack(*tools).split() == ["10001"]


def test_a_training_run_ends_with_an_accuracy(stack: Stack) -> None:
    small = ("--set", "epochs=1", "--set", "dataset.size=256")
    said = stack("run", "--rm", "-T", "trainer", "train", "configs/smoothing.toml", *small, timeout=180)
    assert "% on 10,000 images of fashion-mnist/test" in said
    kept = stack("run", "--rm", "-T", "--no-deps", "--entrypoint", "ls", "trainer", "runs/smoothing")
    assert {"summary.json", "checkpoint.safetensors"} <= set(kept.split())


def test_without_a_password_nothing_starts(engine: None) -> None:
    done = Stack(password="").try_("config", "--quiet")
    assert done.returncode != 0
    assert "NONESUCH_REDIS_PASSWORD is missing a value: it has no default" in done.stderr
    assert "docs/docker.md" in done.stderr
    assert Stack().try_("config", "--quiet").returncode == 0


@pytest.mark.parametrize(
    ("password", "message"),
    [("changeme", "shorter than 16 characters"), ("with/slashes@and:colons", "use only A-Z a-z 0-9 _ -")],
)
def test_redis_refuses_a_password_that_cannot_work(stack: Stack, password: str, message: str) -> None:
    done = Stack(password).try_("run", "--rm", "-T", "--no-deps", "redis")
    assert done.returncode == 2
    assert message in done.stderr


def test_everything_stops_by_itself_and_leaves_nothing(stack: Stack) -> None:
    stack("stop")
    codes = [json.loads(line) for line in stack("ps", "--all", "--format", "json").splitlines()]
    assert {c["Service"]: c["ExitCode"] for c in codes} == dict.fromkeys(RUNNING, 0)
    stack.down()
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in (("container", "ls", "--all"), ("volume", "ls"), ("network", "ls")):
        assert out("docker", *kind, "--quiet", "--filter", label) == ""
