"""URLs of Redis are read in one way or refused, and no part of a secret is ever shown."""

from urllib.parse import quote

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

import nonesuch
from nonesuch.config import RedisSettings, validated
from nonesuch.errors import InvalidValue

PARTS = ("SEC", "RET")
REFUSED = (
    "redis://:SECRET#1@127.0.0.1:6379/0",
    "redis://:SEC/RET@127.0.0.1:6379/0",
    "redis://:S@SEC/RET@127.0.0.1:6379/0",
    "redis://:SEC@RET@127.0.0.1:6379/0",
    "redis://:SEC?RET@127.0.0.1:6379/0",
    "redis://:SEC%RET@127.0.0.1:6379/0",
    "redis://:SEC RET@127.0.0.1:6379/0",
    "redis://127.0.0.1:6379/0?password=SECRET",
    "redis://127.0.0.1:6379/0?foo=SECRET",
    "redis://127.0.0.1:6379/0?db=1",
    "redis://127.0.0.1:6379/?db=SECRET",
    "redis://127.0.0.1:6379/SECRET",
    "redis://127.0.0.1:6379/0/1",
    "redis://127.0.0.1:99999/0",
    "redis://127.0.0.1:0/0",
    "redis://user:SECRET/0",
    "redis://[::1/0",
    "redis://::1/0",
    "redis://",
    "redis:///0",
    "unix://SECRET/redis.sock",
    "unix://",
    "http://:SECRET@127.0.0.1:6379/0",
    "SECRET",
)
SAFE = {
    "redis://127.0.0.1:6379/0": "redis://127.0.0.1:6379/0",
    " redis://redis.example\n": "redis://redis.example",
    "redis://[::1]:6379": "redis://[::1]:6379",
    "redis://:SECRET@host:1/2": "redis://***@host:1/2",
    "redis://SECRET@host/": "redis://***@host",
    "rediss://user:SEC%23%2F%40RET@host:6379?db=3": "rediss://***@host:6379/3",
    "rediss://host?ssl_cert_reqs=none": "rediss://host",
    "unix:///run/redis.sock": "unix:///run/redis.sock",
    "unix://:SECRET@/run/job%2342/redis.sock?db=4": "unix://***@/run/job%2342/redis.sock?db=4",
}


def shown(error: BaseException) -> bool:
    return any(part in str(error) for part in PARTS)


@pytest.mark.parametrize("url", REFUSED)
def test_what_two_readers_could_read_in_two_ways_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidValue, match="NONESUCH_REDIS_URL") as raised:
        RedisSettings.from_env({"NONESUCH_REDIS_URL": url, "NONESUCH_REDIS_TIMEOUT_S": "3"})
    assert not shown(raised.value)
    with pytest.raises(ValueError) as plain:  # noqa: PT011 its own words matter, not ours
        RedisSettings(url=url)
    assert not shown(plain.value)


@pytest.mark.parametrize(("url", "safe"), SAFE.items())
def test_a_url_without_its_secrets(url: str, safe: str) -> None:
    settings = RedisSettings(url=url)
    assert settings.safe_url == safe
    assert not any(part in repr(settings) for part in PARTS)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1), st.integers(0, 99))
def test_any_password_that_is_quoted_reaches_redis(password: str, database: int) -> None:
    settings = RedisSettings(url=f"redis://user:{quote(password, safe='')}@host:1/{database}")
    found = redis.Redis.from_url(settings.url).connection_pool.connection_kwargs
    assert (found["username"], found["password"], found["db"]) == ("user", password, database)
    assert settings.safe_url == f"redis://***@host:1/{database}"


@given(st.text(min_size=1, max_size=40))
def test_whatever_is_accepted_means_the_same_to_redis(rest: str) -> None:
    try:
        settings = RedisSettings(url=f"redis://{rest}")
    except ValueError:
        return
    found = redis.Redis.from_url(settings.url).connection_pool.connection_kwargs
    host, _, database = settings.safe_url.removeprefix("redis://").removeprefix("***@").partition("/")
    assert int(found.get("db", 0)) == int(database or 0)
    assert found["host"].lower() in host.lower()


@pytest.mark.parametrize("change", [{"username": "me"}, {"ca_file": "ca.pem"}, {"password_file": "file"}])
def test_other_mistakes_do_not_show_the_url(change: dict[str, str]) -> None:
    with pytest.raises(InvalidValue) as raised:
        validated(RedisSettings, {"url": "redis://:SECRET@host", **change}, "the options")
    assert not shown(raised.value)


@pytest.mark.parametrize(
    "url", ["http://:SECRET@host", "http://:SEC/RET@host", "http://host?token=SECRET", "http://[SECRET", "SECRET"]
)
def test_a_gateways_url_is_not_shown_either(url: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        nonesuch.Client(url)
    assert not shown(raised.value)
