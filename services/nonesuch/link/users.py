"""Redis' users: each process has its own, which may do what its operations and scripts do, below our keys, and no more.

`nonesuch init` writes them into the file that Redis reads (`aclfile`). Nobody, no user here included, may flush, list
all keys at once, change the configuration, stop the server or load code into it; the user `default`, whom those without
a password are, may do nothing.
"""

from collections.abc import Mapping
from hashlib import sha256

from nonesuch.link.keys import Keys

_PLACING = """
blmove del eval evalsha exists get getbit hdel hexists hget hgetall hincrby hmget hset info lindex llen lmove lpush lrem
ltrim mget persist pexpire ping pttl rename rpush sadd scard set setbit smembers srem strlen time zadd zcard zrange zrem
zscore
"""
"""The commands of those who place orders, take batches and publish snapshots."""
_MINTING = """
blpop del eval evalsha exists get getbit hdel hexists hget hgetall hincrby hmget info llen lmove lpop lpush lrange lrem
ltrim mget persist ping rename rpush sadd set setbit smembers srem strlen time zadd zcard zrange zrem
"""
"""The commands of those who claim and commit tickets, fetch snapshots, and look whether they are in the catalogue."""
_LOOKING = """
dbsize exists get getbit hexists hget hgetall hmget info lindex llen lrange memory|usage mget ping pttl scan scard
slowlog|get smembers strlen time ttl type zcard zrange zscore
"""
"""The commands of a person who wants to know what is there: reads, and nothing that holds up the others for long."""

USERS: Mapping[str, frozenset[str]] = {
    "gateway": frozenset(_PLACING.split()),
    "trainer": frozenset(_PLACING.split()),
    "worker": frozenset(_MINTING.split()),
    "operator": frozenset(_LOOKING.split()),
}
"""User → the commands that it may give, also by a script."""

OURS = Keys()


def access_list(passwords: Mapping[str, str], keys: Keys = OURS) -> str:
    """The file for Redis' `aclfile`. It has the passwords' sha256, which is what Redis compares.

    Args:
        passwords: user → password, for each of `USERS`. They must be long and random: the hash is fast.
        keys: what the users may touch.
    """
    lines = ["user default reset"]
    for user, commands in USERS.items():
        digest = sha256(passwords[user].encode()).hexdigest()
        may = " ".join(f"+{command}" for command in sorted(commands))
        lines.append(f"user {user} reset on #{digest} ~{keys.namespace} ~{keys.pattern} -@all {may}")
    return "\n".join(lines) + "\n"
