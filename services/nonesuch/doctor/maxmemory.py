"""Whether Redis may have what a plan needs (`sizing`): the one that is not started yet, and the one that runs."""

import re
from collections.abc import Iterator, Mapping

from nonesuch.config import RedisSettings
from nonesuch.doctor.checks import Finding
from nonesuch.effects import Op
from nonesuch.errors import InvalidValue, NonesuchError
from nonesuch.link import Call, Link

SETTING = "NONESUCH_REDIS_MAXMEMORY"
"""The variable that sets the `maxmemory` of a Redis that docker compose starts."""
_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
"""The units of a size, in bytes, as redis.conf has them."""


def check_maxmemory(needed: int, env: Mapping[str, str]) -> Iterator[Finding]:
    """Compare a plan's `maxmemory` in bytes with the environment's, and with that of the Redis that it names, if it
    names one. Raises `InvalidValue` for a setting that is no size."""
    wanted = f"{needed // 2**20}mb"
    yield Finding("maxmemory", "ok", f"the plan needs {SETTING}={wanted}")
    if given := env.get(SETTING):
        yield _compared(f"{SETTING}={given}", parse_bytes(given, SETTING), needed, f"set {SETTING}={wanted}")
    if env.get("NONESUCH_REDIS_URL"):
        settings = RedisSettings.from_env(env)
        try:
            with Link(settings) as link:
                found = int(link.run(_memory())["maxmemory"])
        except NonesuchError as error:
            yield Finding("running Redis", "note", "it was not asked for its maxmemory", str(error))
        else:
            yield _compared(f"Redis at {settings.safe_url}", found, needed, f"set its maxmemory to {wanted}")


def parse_bytes(text: str, name: str) -> int:
    """Bytes of a size as redis.conf has it (1gb is 2**30, 1g is 10**9). Raises `InvalidValue` that names it."""
    match = re.fullmatch(r"(\d+)([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise InvalidValue(f"{name} {text!r} is not a size: give one as 1gb or 1536mb", field=name)
    return int(match[1]) * _UNITS[match[2]]


def _compared(what: str, found: int, needed: int, remedy: str) -> Finding:
    if not found:
        return Finding(what, "note", "without a limit it may take all of its machine's memory", remedy)
    detail = f"{found / 2**20:.0f} MiB, and the plan takes {needed / 2**20:.0f} MiB at most"
    if found >= needed:
        return Finding(what, "ok", detail)
    return Finding(what, "fail", detail, f"{remedy}, or lower what takes the most: see the table")


def _memory() -> Op[dict[str, int]]:
    info: dict[str, int] = yield Call("INFO", "memory")
    return info
