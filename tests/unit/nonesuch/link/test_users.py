"""Redis' users may do what the source asks of Redis, and nothing dangerous. tests/integration runs it."""

import re
from pathlib import Path

import pytest

from nonesuch.link import Keys
from nonesuch.link.users import USERS, access_list

ROOT = Path(__file__).parents[4]
PACKAGES = ("services/nonesuch", "services/nonesuch_gateway", "worker/nonesuch_worker", "trainer/nonesuch_trainer")
LUA = ROOT / "services/nonesuch/link/lua"
ENDING = ("cancel", "give_back", "sweep")
PLACING = ("place", "open_ring", "touch_ring", "close_ring", "take", "release", "read_ring", "publish")
SCRIPTS = {
    "worker": ("claim", "renew", "commit", "load", *ENDING),
    "trainer": (*PLACING, "drop_channel"),
    "gateway": (*PLACING, "spend", "stats", *ENDING),
}
"""User → the scripts that its process runs."""
PASSWORDS = {user: f"password of {user}" for user in USERS}


def asked_for() -> set[str]:
    """Every command in our operations and scripts."""
    sources = [(ROOT / package).rglob("*.py") for package in PACKAGES]
    calls = {name for files in sources for file in files for name in re.findall(r'Call\("(\w+)"', file.read_text())}
    scripts = "".join(file.read_text() for file in LUA.glob("*.lua"))
    assert not re.findall(r"redis\.p?call\([^']", scripts)  # each names its command
    return {name.lower() for name in calls | set(re.findall(r"redis\.p?call\('(\w+)'", scripts))}


def test_the_processes_have_the_commands_of_the_source_and_no_other() -> None:
    processes = {command for user, commands in USERS.items() if user != "operator" for command in commands}
    assert processes == asked_for() | {"eval", "evalsha"}


@pytest.mark.parametrize("user", SCRIPTS)
def test_a_process_may_do_what_its_scripts_do(user: str) -> None:
    assert {command for name in SCRIPTS[user] for command in commands_of(name)} <= USERS[user]
    assert set(SCRIPTS[user]) <= {file.stem for file in LUA.glob("*.lua")}


def commands_of(name: str) -> set[str]:
    """What a script calls, also by the functions of the prelude."""
    functions = re.findall(r"^local function (\w+)(.*?)(?=^local function |\Z)", prelude(), re.MULTILINE | re.DOTALL)
    seen: set[str] = set()
    texts = [(LUA / f"{name}.lua").read_text()]
    for text in texts:
        called = [(f, body) for f, body in functions if f not in seen and re.search(rf"\b{f}\(", text)]
        seen |= {f for f, _ in called}
        texts += [body for _, body in called]
    return {command.lower() for command in re.findall(r"redis\.p?call\('(\w+)'", "".join(texts))}


def prelude() -> str:
    return (LUA / "prelude.lua").read_text()


@pytest.mark.parametrize("user", USERS)
def test_nobody_may_do_what_endangers_the_others(user: str) -> None:
    forbidden = {"flushall", "flushdb", "keys", "config", "debug", "shutdown", "save", "bgsave", "monitor", "acl"}
    forbidden |= {"script", "function", "module", "replicaof", "migrate", "swapdb", "client", "cluster", "failover"}
    assert not {command.split("|")[0] for command in USERS[user]} & forbidden


def test_the_operator_writes_nothing() -> None:
    assert not USERS["operator"] & {"set", "del", "eval", "evalsha", "hset", "zadd", "sadd", "rpush", "rename"}


def test_the_list_has_hashes_and_no_passwords() -> None:
    text = access_list(PASSWORDS, Keys("mine"))
    first, *users = text.splitlines()
    assert first == "user default reset"  # off, without a password that would let it in, without a command
    assert [line.split()[1] for line in users] == list(USERS)
    assert not [password for password in PASSWORDS.values() if password in text]
    assert all(" ~mine ~mine:* -@all +" in line and re.search(r" #[0-9a-f]{64} ", line) for line in users)
