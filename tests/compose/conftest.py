"""The service on a real Docker engine.

The stack has a project name, secrets and a port of its own, so that one that is already running is left alone.
`NONESUCH_COMPOSE_OVERRIDE` names a further compose file, for machines that cannot build without one (docs/docker.md).
The images are built once; each file of tests starts the stack anew.
"""

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.stack import PROFILES, Stack, run

SAID = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SAID] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for text in config.stash[SAID]:
        terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Say something at the end of the run, whether tests passed or not."""
    return pytestconfig.stash[SAID].append


@pytest.fixture(scope="session")
def engine() -> None:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command: install Docker Engine with the compose plugin")
    if (done := run("docker", "info")).returncode:
        pytest.skip(f"no Docker engine answers: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    if run("docker", "compose", "version").returncode:
        pytest.skip("docker has no compose plugin: install it (docker-compose-plugin)")


@pytest.fixture(scope="session")
def built(engine: None) -> Iterator[Stack]:
    """Nothing runs, and the images are there."""
    stack = Stack()
    stack.down()  # what a run that was killed left behind
    try:
        stack(*PROFILES, "build", timeout=2000)
        yield stack
    finally:
        stack.down("--rmi", "local")


@pytest.fixture(scope="module")
def stack(built: Stack) -> Iterator[Stack]:
    """The service, running and healthy."""
    try:
        built.up()
        yield built
    finally:
        built.down()
