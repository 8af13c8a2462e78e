"""Everything on one machine: Redis, a fleet of workers, the gateway.

    with LocalService(workers=2) as service:
        link = Link(service.redis)

Each part is its own process, started by the same commands that start it on a machine of its own. They stop in the
order gateway, workers, Redis, and the kernel ends them if this process is killed.
"""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from nonesuch.catalog import read_catalog
from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidValue, ServiceError
from nonesuch.host.contexts import Starting
from nonesuch.host.files import locked
from nonesuch.host.loopback import direct
from nonesuch.host.orphans import die_with_parent
from nonesuch.host.writing import writing
from nonesuch.link import Link
from nonesuch.link.patience import Patience
from nonesuch.local.private_redis import PrivateRedis

READY_S = 120.0
STOP_S = 20.0
CLUSTER = ("RAY_ADDRESS", "NONESUCH_ELASTIC")
"""Variables that would have a worker join somebody's cluster; this service is of one machine."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """The folder, or the first of `folder`-2, `folder`-3, … that no other process has; made, and kept to this one."""
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(own))
            except InvalidValue:
                continue
            yield own
            return


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class LocalService(Starting):
    """The service on this machine. `port=None` leaves the gateway out; `workers` counts CPU workers.

    Redis is the one given, or the one that the environment names, or else a private one; always that if `private`, so
    that nobody else's workers or orders are there. While another service writes to `logs`, this one has `logs`-2, and
    so on; its `logs` says which, once it has started.
    """

    def __init__(
        self,
        *,
        logs: Path,
        workers: int = 1,
        threads: int | None = None,
        host: str = "127.0.0.1",
        port: int | None = 8000,
        generators: tuple[str, ...] = (),
        redis: RedisSettings | None = None,
        private: bool = False,
        on_step: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.logs = logs
        self._workers = workers
        self._threads = threads
        self._host = host
        self._port = port
        self._generators = generators
        self._on_step = on_step
        self._private: PrivateRedis | None = None
        self._children: list[_Child] = []
        self._held = ExitStack()
        self._is_private = private or (redis is None and "NONESUCH_REDIS_URL" not in os.environ)
        self.redis = redis or RedisSettings.from_env()

    @property
    def url(self) -> str | None:
        """The gateway's URL. Without a port there is none; it is of HTTPS where the gateway finds a certificate."""
        scheme = "https" if os.environ.get("NONESUCH_GATEWAY_TLS_CERTIFICATE") else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host  # an IPv6 address
        return None if self._port is None else f"{scheme}://{host}:{self._port}"

    def check(self) -> None:
        """Raises `ServiceError` with the end of its log if a part of the service has ended."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                words = child.log.read_text(errors="replace")[-1500:].strip()
                raise ServiceError(f"the {child.name} ended with code {code}; {child.log} ends with:\n{words}")
        if self._private is not None and not self._private.alive:
            raise ServiceError("the private Redis ended")

    def stop(self) -> None:
        """Stop everything that was started, in order. Does nothing the second time."""
        while self._children:
            child = self._children.pop()
            if child.process.poll() is None:
                self._on_step(f"stopping the {child.name}")
                child.process.send_signal(signal.SIGINT)
                try:
                    child.process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(child.process.pid, signal.SIGKILL)
                    child.process.wait()
        if self._private is not None:
            self._private.stop()
            self._private = None
        self._held.close()

    def start(self) -> None:
        self.logs = self._held.enter_context(_own_folder(self.logs))
        if self._is_private:
            self._on_step("starting a private Redis")
            self._private = PrivateRedis()
            self._private.start()
            self.redis = self.redis.model_copy(update={"url": self._private.url})
        with Link(self.redis) as link:
            Patience(link, outage_s=READY_S, stop=threading.Event(), say=self._on_step).begin()
        self._on_step(f"starting {self._workers} worker{'s' if self._workers > 1 else ''}")
        sources = [option for source in self._generators for option in ("--generator", source)]
        threads = ("--threads", str(self._threads)) if self._threads else ()
        self._spawn("worker", "--workers", str(self._workers), *threads, *sources)
        if self._port is not None:
            self._on_step("starting the gateway")
            self._spawn("gateway", "--host", self._host, "--port", str(self._port))
        self._wait_until_ready()

    def _spawn(self, command: str, *options: str) -> None:
        log = self.logs / f"{command}.log"
        own = {name: value for name, value in os.environ.items() if name not in CLUSTER}
        env = {**own, "NONESUCH_REDIS_URL": self.redis.url, "NONESUCH_NAMESPACE": self.redis.namespace}
        with writing(log), log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "nonesuch", command, *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # Ctrl-C is for this process, which stops its parts in order
                preexec_fn=die_with_parent(),
            )
        self._children.append(_Child(command, process, log))

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY_S
        with Link(self.redis) as link:
            while not (len(link.run(read_catalog(link.keys)).workers) >= self._workers and self._gateway_is_ready()):
                self.check()
                if time.monotonic() > end:
                    raise ServiceError(f"the service was not ready after {READY_S:.0f} s; see {self.logs}")
                time.sleep(0.1)

    def _gateway_is_ready(self) -> bool:
        if self.url is None:
            return True
        any_name = ssl._create_unverified_context()  # its certificate is for the name that clients ask for
        try:
            with direct(any_name).open(f"{self.url}/readyz", timeout=2) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False
