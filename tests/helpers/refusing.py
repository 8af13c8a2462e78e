"""Redis servers that answer and refuse: real ones that are made to, and a small one that says whatever it is told."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.exceptions import ResponseError

from nonesuch.config import RedisSettings
from nonesuch.errors import Occupied
from nonesuch.link import Call, Link

GREETINGS = (b"HELLO", b"CLIENT", b"AUTH")


class Refusing(socketserver.ThreadingTCPServer):
    """Answers every command with the error that `says` holds, but for those that redis-py opens a connection with."""

    daemon_threads = True

    def __init__(self, says: str, *, is_redis: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.says, self.is_redis = says, is_redis

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(url=f"redis://127.0.0.1:{self.server_address[1]}/0")


class _Conversation(socketserver.StreamRequestHandler):
    server: Refusing

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
            if not self.server.is_redis:
                self.wfile.write(self.server.says.encode())
            elif words[0] == b"HELLO":
                self.wfile.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            elif words[0] in GREETINGS:
                self.wfile.write(b"+OK\r\n")
            else:
                self.wfile.write(f"-{self.server.says}\r\n".encode())


@contextmanager
def refusing(says: str, *, is_redis: bool = True) -> Iterator[Refusing]:
    """A server in a thread; it is gone afterwards. What is no Redis says the same to whatever it is told."""
    with Refusing(says, is_redis=is_redis) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def tell(link: Link, *words: str) -> object:
    """Give Redis one command."""

    def op():
        return (yield Call(*words))

    return link.run(op())


@contextmanager
def no_replicas(link: Link) -> Iterator[None]:
    """While it lasts every write is refused by NOREPLICAS."""
    tell(link, "CONFIG", "SET", "min-replicas-to-write", "1")
    try:
        yield
    finally:
        tell(link, "CONFIG", "SET", "min-replicas-to-write", "0")


@contextmanager
def read_only(link: Link) -> Iterator[None]:
    """While it lasts every write is refused by READONLY; what waits in a blocking command gets UNBLOCKED."""
    tell(link, "REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        tell(link, "REPLICAOF", "NO", "ONE")


@contextmanager
def orphaned(link: Link) -> Iterator[None]:
    """While it lasts every command on keys is refused by MASTERDOWN."""
    tell(link, "CONFIG", "SET", "replica-serve-stale-data", "no")
    try:
        with read_only(link):
            yield
    finally:
        tell(link, "CONFIG", "SET", "replica-serve-stale-data", "yes")


@contextmanager
def in_a_script(link: Link) -> Iterator[None]:
    """While it lasts every command is refused by BUSY."""
    tell(link, "CONFIG", "SET", "busy-reply-threshold", "20")

    def loop() -> None:
        with Link(link.settings) as other, suppress(ResponseError):  # it is killed
            tell(other, "EVAL", "while true do end", "0")

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        with suppress(Occupied):
            while True:  # until the script runs
                link.ping()
        yield
    finally:
        tell(link, "SCRIPT", "KILL")
        thread.join()


REFUSALS = (no_replicas, read_only, orphaned, in_a_script)
"""Ways to make a real Redis refuse for a while."""
