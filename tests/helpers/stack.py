"""One project of docker compose, and what tests of it ask and do. Fixtures are in conftest.py.

stack.mint(count=256)                 a request over HTTP, from outside
with stack.in_flight(count=2000) as reply: ...; reply.result()
stack.redis("operator", "dbsize")     a command as one of Redis' users
stack.kill("worker")                  as a crash would: Docker's restart policy brings it back
stack.until(lambda: ..., "what is waited for")
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = "nonesuch-test"
PROFILES = ("--profile", "train")
RUNNING = ("redis", "head", "worker", "gateway")
"""What `up` starts and leaves running."""


def run(*command: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **env})


def out(*command: str, timeout: float = 60) -> str:
    done = run(*command, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Stack:
    """`settings` are environment variables of docker compose; `files` are further compose files."""

    settings: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()

    def try_(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`."""
        return run("docker", "compose", *arguments, timeout=timeout, **self.environment())

    def environment(self) -> dict[str, str]:
        """What makes `docker compose` mean this stack in any folder, whatever this machine's .env says."""
        files = ["docker-compose.yml", *self.files, os.environ.get("NONESUCH_COMPOSE_OVERRIDE")]
        return {
            "COMPOSE_FILE": os.pathsep.join(str(ROOT / file) for file in files if file),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_ENV_FILES": os.devnull,
            "NONESUCH_PORT": "0",
            **dict(self.settings),
        }

    def __call__(self, *arguments: str, timeout: float = 120) -> str:
        """What `docker compose` prints. Fails with its last words and those of the containers."""
        done = self.try_(*arguments, timeout=timeout)
        if done.returncode:
            logs = self.try_("logs", "--no-color", "--tail", "30").stdout
            pytest.fail(f"docker compose {' '.join(arguments)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n{logs}")
        return done.stdout

    # -- life --------------------------------------------------------------------------------------------------
    def up(self, *, workers: int = 1) -> None:
        """Start what does not run, and wait until it is healthy."""
        scale = ("--scale", f"worker={workers}")
        self("up", "--detach", "--wait", "--wait-timeout", "150", "--no-recreate", *scale, timeout=200)

    def down(self, *also: str) -> None:
        self(*PROFILES, "down", "--volumes", "--remove-orphans", *also, timeout=180)

    def containers(self, service: str) -> list[str]:
        return self("ps", "--quiet", service).split()

    def container(self, service: str) -> str:
        (only,) = self.containers(service)
        return only

    def inspect(self, service: str, template: str) -> Any:
        """What the engine knows of a service's container, by a template that gives JSON."""
        return json.loads(out("docker", "inspect", "--format", template, self.container(service)))

    def addresses(self, service: str) -> list[str]:
        """Its container's IP addresses."""
        networks = self.inspect(service, "{{json .NetworkSettings.Networks}}")
        return [network["IPAddress"] for network in networks.values()]

    def kill(self, service: str, number: int = 0) -> None:
        """Kill all processes of a container at once, as a crash or the lack of memory does. `docker kill` would tell
        the engine not to start it again. Needs root, on the engine's machine."""
        pid = int(out("docker", "inspect", "--format", "{{.State.Pid}}", self.containers(service)[number]))
        try:
            os.kill(pid, signal.SIGKILL)
        except (PermissionError, ProcessLookupError):
            pytest.skip("only root on the engine's machine can kill a container's processes from outside")

    # -- HTTP --------------------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where the gateway is. Docker knows a port that it chose only while the container runs."""
        port = dict(self.settings).get("NONESUCH_PORT")
        return "http://" + (f"127.0.0.1:{port}" if port else self("port", "gateway", "8000").strip())

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as reply:
            assert reply.status == 200
            return json.loads(reply.read())

    def ready(self) -> dict[str, object]:
        return self.get("/readyz")

    def workers(self) -> int:
        """Those of /v1/stats; 0 while the gateway does not answer."""
        try:
            return len(self.get("/v1/stats")["workers"])
        except (OSError, urllib.error.URLError):
            return 0

    def mint(self, **request: object) -> bytes:
        body, kind = json.dumps(request).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/batches", body, kind), timeout=120) as reply:
            assert reply.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
            return reply.read()

    @contextmanager
    def in_flight(self, **request: object) -> Iterator[Future[bytes]]:
        """A request that is being answered meanwhile; its result raises `urllib.error.HTTPError` when it is refused."""
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(self.mint, **request)

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
        """Wait for a condition, and say how many seconds it took. Fails the test with the containers' last words."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                logs = self.try_("logs", "--no-color", "--tail", "30").stdout
                pytest.fail(f"{what}: not within {timeout_s:g} s\n{logs}")
            time.sleep(0.25)
        return time.monotonic() - began

    # -- secrets and Redis -------------------------------------------------------------------------------------
    def secret(self, name: str) -> str:
        """A file that `nonesuch init` made, as `worker/redis.password`."""
        return self("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "init", f"/secrets/{name}").strip()

    def redis(self, user: str, *command: str) -> str:
        """What Redis answers one of its users."""
        password = self.secret(f"{user}/redis.password")
        as_user = ("-e", f"REDISCLI_AUTH={password}", "redis", "redis-cli", "--user", user, "--no-auth-warning")
        return self("exec", "-T", *as_user, *command).strip()
