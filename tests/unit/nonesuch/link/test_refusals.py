"""What Redis' refusals mean, for each that is known, on a thread and in an event loop; the rest passes."""

import asyncio
from functools import cache

import pytest
from redis.exceptions import ResponseError

from nonesuch.errors import Busy, NonesuchError, Occupied, Refused, Unreachable
from nonesuch.link import AsyncLink, Link, check_writable
from nonesuch.link.patience import PASSING
from nonesuch.link.refusals import REFUSALS
from tests.helpers.refusing import refusing

SAYS = {
    "NOPERM this user has no permissions to run the 'del' command": Refused,
    "ERR The user executing the script can't run this command or subcommand script: f00, on @user_script:1.": Refused,
    "WRONGTYPE Operation against a key holding the wrong kind of value": Refused,
    "ERR DB index is out of range": Refused,
    "ERR SELECT is not allowed in cluster mode": Refused,
    "CROSSSLOT Keys in request don't hash to the same slot": Refused,
    "ERR Script attempted to access a non local key in a cluster node": Refused,
    "ERR unknown command 'DEL', with args beginning with: 'nonesuch:nothing' ": Refused,
    "NOPROTO unsupported protocol version": Refused,
    "DENIED Redis is running in protected mode because no password is set. In this mode ...": Refused,
    "LOADING Redis is loading the dataset in memory": Occupied,
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": Occupied,
    "TRYAGAIN Multiple keys request during rehashing of slot": Occupied,
    "OOM command not allowed when used memory > 'maxmemory'.": Busy,
    "READONLY You can't write against a read only replica.": Unreachable,
    "READONLY You can't write against a read only replica. script: f00, on @user_script:7.": Unreachable,
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": Unreachable,
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": Unreachable,
    "NOREPLICAS Not enough good replicas to write.": Unreachable,
    "CLUSTERDOWN The cluster is down": Unreachable,
    "MOVED 3999 127.0.0.1:6381": Unreachable,
    "ASK 3999 127.0.0.1:6381": Unreachable,
}
"""A sentence of Redis' for each line of the table."""
OF_REDIS_6 = "ERR Error running script (call to f_00): @user_script:17: @user_script: 17: "
UNHEARD_OF = ("UNBLOCKED force unblock from blocking operation, instance state changed", "FROZEN Come back in summer.")
"""Refusals that the table does not have."""


@cache
def meant(says: str) -> NonesuchError:
    """What a Redis that says so raises, on a thread; in an event loop it is the same."""

    async def awaited() -> None:
        link = AsyncLink(server.settings)
        try:
            await link.run(check_writable(link.keys))
        finally:
            await link.close()

    with refusing(says) as server:
        with Link(server.settings) as link, pytest.raises(NonesuchError) as raised:
            link.run(check_writable(link.keys))
        with pytest.raises(NonesuchError) as again:
            asyncio.run(awaited())
    assert type(again.value) is type(raised.value) and str(again.value) == str(raised.value)
    return raised.value


@pytest.mark.parametrize("says", SAYS, ids=lambda says: says.partition(" ")[0])
def test_a_refusal_is_one_line_with_what_redis_said_and_a_remedy(says: str) -> None:
    error = meant(says)
    assert type(error) is SAYS[says]
    text = str(error)
    assert says.partition(". ")[0].partition(" script: ")[0].rstrip(". ") in text
    assert text.startswith("Redis at redis://127.0.0.1:") and "\n" not in text
    assert "user_script" not in text and len(text) < 400


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.says)
def test_every_line_of_the_table_is_met(refusal) -> None:
    texts = [str(meant(says)) for says in SAYS]
    assert any(refusal.means in text and refusal.remedy in text for text in texts)


@pytest.mark.parametrize("says", [s for s in SAYS if not s.startswith("ERR")], ids=lambda s: s.partition(" ")[0])
def test_the_refusal_inside_of_a_script_of_redis_6_counts(says: str) -> None:
    assert type(meant(f"{OF_REDIS_6}-{says}")) is SAYS[says]


@pytest.mark.parametrize("says", UNHEARD_OF)
def test_what_nobody_has_heard_of_passes(says: str) -> None:
    error = meant(says)
    assert type(error) is Unreachable and says.partition(". ")[0].rstrip(".") in str(error)


def test_final_is_what_patience_does_not_wait_for() -> None:
    final = {kind for kind in SAYS.values() if not issubclass(kind, PASSING)}
    assert final == {Refused}


def test_what_is_wrong_with_the_call_itself_is_a_bug_and_stays_one() -> None:
    says = "ERR wrong number of arguments for 'del' command"
    with refusing(says) as server, Link(server.settings) as link, pytest.raises(ResponseError, match="wrong number"):
        link.run(check_writable(link.keys))


def test_what_is_no_redis_is_named() -> None:
    refused = pytest.raises(Refused, match=r"what answers at redis://.* is no Redis")
    with refusing("HTTP/1.1 400 Bad Request\r\n\r\n", is_redis=False) as server, Link(server.settings) as link, refused:
        link.ping()
