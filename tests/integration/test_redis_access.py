"""Redis with users and with TLS: who gets in, what they may do, and what the errors say."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nonesuch.catalog import announce, read_catalog
from nonesuch.config import RedisSettings
from nonesuch.effects import Op
from nonesuch.errors import InvalidValue, ServiceError, Unreachable
from nonesuch.link import AsyncLink, Call, Link
from nonesuch.link.users import USERS
from nonesuch.local.private_redis import find_redis_server
from nonesuch.local.service import free_port
from nonesuch.stats import read_stats
from nonesuch_gateway.access.secret_files import make_secrets
from tests.helpers.certificates import make_certificate
from tests.helpers.fakes import WORKER

ADMIN = "user admin on nopass ~* &* +@all"
"""Of these tests alone, to look at what Redis refused."""


@contextmanager
def server(folder: Path, *options: str) -> Iterator[None]:
    """A redis-server that keeps nothing; its log is in `folder`."""
    command = [str(find_redis_server()), "--save", "", "--dir", str(folder), "--logfile", str(folder / "redis.log")]
    process = subprocess.Popen([*command, *options])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def wait_for(settings: RedisSettings) -> None:
    end = time.monotonic() + 10
    with Link(settings) as link:
        while True:
            try:
                return link.ping()
            except Unreachable:
                assert time.monotonic() < end, "redis-server did not start"
                time.sleep(0.02)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    list(make_secrets(folder))
    return folder


@pytest.fixture(scope="module")
def guarded(secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis with our users, and one for the test."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    users = folder / "users.acl"
    users.write_text((secrets / "redis/users.acl").read_text() + ADMIN + "\n")
    with server(folder, "--port", str(port), "--aclfile", str(users)):
        url = f"redis://127.0.0.1:{port}/0"
        wait_for(RedisSettings(url=url.replace("//", "//admin:any@")))
        yield url


def as_user(url: str, secrets: Path, user: str) -> RedisSettings:
    return RedisSettings(url=url, username=user, password_file=secrets / user / "redis.password")


def command(*words: str) -> Op[object]:
    return (yield Call(*words))


@pytest.mark.parametrize("user", USERS)
def test_a_user_gets_in_by_the_password_file_and_may_not_flush(guarded: str, secrets: Path, user: str) -> None:
    with Link(as_user(guarded, secrets, user)) as link:
        link.ping()
        with pytest.raises(ServiceError, match=r"does not let us do this: .*flushall.*nonesuch init"):
            link.run(command("FLUSHALL"))


def test_a_script_that_may_not_do_what_it_does_says_so_too(guarded: str, secrets: Path) -> None:
    async def awaited() -> None:
        link = AsyncLink(as_user(guarded, secrets, "worker"))
        try:
            await link.run(read_stats(link.keys))
        finally:
            await link.close()

    refusal = r"does not let us do this: .*can't run this command.*nonesuch init"
    with Link(as_user(guarded, secrets, "worker")) as link:
        link.run(announce(link.keys, WORKER))
        with pytest.raises(ServiceError, match=refusal):
            link.run(read_stats(link.keys))
    with pytest.raises(ServiceError, match=refusal):
        asyncio.run(awaited())


def test_the_password_is_read_at_every_connect(guarded: str, secrets: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of yesterday")
    settings = RedisSettings(url=guarded, username="gateway", password_file=file)
    with Link(settings) as link:
        with pytest.raises(Unreachable, match=r"does not let us in: .*NONESUCH_REDIS_PASSWORD_FILE"):
            link.ping()
        file.write_text((secrets / "gateway/redis.password").read_text() + "\n")
        link.ping()


def test_without_a_password_nobody_gets_in(guarded: str) -> None:
    with Link(RedisSettings(url=guarded)) as link, pytest.raises(Unreachable, match="does not let us in"):
        link.ping()


def test_a_gateways_link_takes_the_same_file(guarded: str, secrets: Path) -> None:
    async def look() -> None:
        link = AsyncLink(as_user(guarded, secrets, "gateway"))
        await link.ping()
        await link.close()

    asyncio.run(look())


def test_a_password_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    settings = RedisSettings(url="redis://127.0.0.1:1/0", password_file=tmp_path / "none")
    with pytest.raises(InvalidValue, match=r"cannot be read from .*none: No such file.*nonesuch init"):
        settings.password()


def test_what_cannot_be_meant_is_refused() -> None:
    def read(**env: str) -> RedisSettings:
        return RedisSettings.from_env({f"NONESUCH_REDIS_{name}": value for name, value in env.items()})

    with pytest.raises(InvalidValue, match="keep one of them"):
        read(URL="redis://:secret@host", PASSWORD_FILE="/somewhere")
    with pytest.raises(InvalidValue, match="'gateway' has no password_file"):
        read(USERNAME="gateway")
    with pytest.raises(InvalidValue, match="rediss://"):
        read(URL="redis://host", CA_FILE="/somewhere")


def test_redis_by_tls_and_only_by_its_own_authority(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    stranger, _ = make_certificate(tmp_path, "stranger")
    port = free_port()
    tls = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    url = f"rediss://127.0.0.1:{port}/0"
    with server(tmp_path, "--port", "0", "--tls-port", str(port), *tls):
        wait_for(RedisSettings(url=url, ca_file=certificate))
        with Link(RedisSettings(url=url, ca_file=certificate)) as link:
            link.run(announce(link.keys, WORKER))
            assert [worker.id for worker in link.run(read_catalog(link.keys)).workers] == [WORKER.id]
        with Link(RedisSettings(url=url, ca_file=stranger)) as link, pytest.raises(Unreachable, match="certificate"):
            link.ping()
        with Link(RedisSettings(url=url)) as link, pytest.raises(Unreachable, match="certificate"):
            link.ping()
        with Link(RedisSettings(url=url.replace("rediss", "redis"))) as link, pytest.raises(Unreachable):
            link.ping()
