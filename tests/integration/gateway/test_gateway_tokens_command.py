"""`nonesuch token`: what it prints, what it writes, and what the gateway makes of it."""

import json
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from nonesuch.errors import InvalidValue
from nonesuch_gateway.access import tokens as tokens_module
from nonesuch_gateway.access.token_cli import token
from nonesuch_gateway.access.tokens import editing, make_token, read_tokens
from nonesuch_gateway.server import listen
from nonesuch_gateway.settings import GatewaySettings


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "folder" / "tokens.json"
    monkeypatch.setenv("NONESUCH_GATEWAY_TOKENS", str(file))
    return file


def run(*words: str) -> Result:
    result = CliRunner().invoke(token, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_token_is_shown_once_and_kept_as_a_hash(path):
    shown = run("create", "the laboratory", "--scope", "snapshot", "--scope", "mint", "--days", "30").stdout.strip()
    kind, token_id, secret = shown.split("_", 2)
    assert (kind, len(token_id), len(secret)) == ("nsk", 16, 43)
    assert secret not in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    (kept,) = json.loads(path.read_text())["tokens"]
    assert kept["sha256"] == sha256(secret.encode()).hexdigest()
    found = read_tokens(path)[token_id]
    assert found.label == "the laboratory" and found.scopes == ("mint", "snapshot")
    assert found.expires is not None and (found.expires - found.created).days == 30
    listed = run("list").stdout
    assert token_id in listed and "the laboratory" in listed and "mint snapshot" in listed and secret not in listed


def test_tokens_open_a_gateway_until_they_are_revoked(path, make_gateway):
    text = run("create", "someone", "--requests-per-minute", "100", "--images-per-day", "1000").stdout.strip()
    url = f"{make_gateway(tokens=path).url}/v1/stats"
    headers = {"Authorization": f"Bearer {text}"}
    assert httpx.get(url, headers=headers).status_code == 200
    assert "1,000" in run("list").stdout and "100" in run("list").stdout
    run("revoke", text.split("_")[1])
    assert httpx.get(url, headers=headers).status_code == 401
    assert read_tokens(path) == {}
    with pytest.raises(InvalidValue, match="token list"):
        run("revoke", text)


def test_a_token_revokes_itself_by_its_text(path):
    text = run("create", "someone").stdout.strip()
    run("revoke", text)
    assert read_tokens(path) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "x", "--scope", "root"), "'root' is unknown: there are mint, snapshot, admin"),
        (("create", ""), "label"),
        (("create", "a\nb"), "label"),
        (("list",), "nonesuch token create"),
        (("revoke", "0123"), "no token '0123'"),
    ],
)
def test_what_cannot_be_is_refused_and_writes_nothing(path, words, message):
    with pytest.raises(InvalidValue, match=message):
        run(*words)
    assert not path.exists()


def test_the_file_must_be_named(monkeypatch, tmp_path):
    monkeypatch.delenv("NONESUCH_GATEWAY_TOKENS", raising=False)
    with pytest.raises(InvalidValue, match="--file"):
        run("create", "x")
    run("create", "x", "--file", str(tmp_path / "t.json"))
    assert len(read_tokens(tmp_path / "t.json")) == 1


def damaged(**changes: object) -> str:
    made, _ = make_token("x", ("mint",))
    return json.dumps({"version": 1, "tokens": [{**made.model_dump(mode="json"), **changes}]})


def twice() -> str:
    document = json.loads(damaged())
    return json.dumps({**document, "tokens": document["tokens"] * 2})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "cannot be used"),
        ('{"version": 2}', "version"),
        (damaged(scopes=["root"]), "scopes"),
        (damaged(scopes=[]), "scopes"),
        (damaged(sha256="x"), "sha256"),
        (damaged(expires="2030-01-01T00:00:00"), "timezone"),
        (damaged(images_per_day=-1), "images_per_day"),
        (twice(), "two tokens have the same id"),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(path, content, message):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InvalidValue, match=message):
        run("list")
    with pytest.raises(InvalidValue, match=message):
        run("create", "x")
    assert path.read_text() == content


def test_edits_at_the_same_time_lose_nothing(path):
    def add(number: int) -> None:
        made, _ = make_token(f"number {number}", ("mint",))
        with editing(path) as tokens:
            tokens[made.id] = made

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert {each.label for each in read_tokens(path).values()} == {f"number {n}" for n in range(40)}


def test_an_edit_that_fails_changes_nothing(path):
    run("create", "x")
    before = path.read_bytes()

    def fail() -> None:
        with editing(path) as tokens:
            tokens.clear()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == before


def test_an_edit_does_not_wait_for_ever(path, monkeypatch):
    monkeypatch.setattr(tokens_module, "LOCK_S", 0.1)
    with editing(path), pytest.raises(InvalidValue, match="locked"):
        run("create", "x")


def test_the_gateway_command_stays_on_this_machine_without_tokens():
    command = [sys.executable, "-m", "nonesuch", "gateway", "--host", "0.0.0.0", "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2 and "does not listen on 0.0.0.0" in refused.stderr


def test_the_gateway_command_needs_its_file_of_tokens(path):
    refused = subprocess.run(
        [sys.executable, "-m", "nonesuch", "gateway", "--port", "0", "--tokens", str(path)],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert refused.returncode == 2 and refused.stdout == "" and f"no file of tokens at {path}" in refused.stderr


def test_the_gateway_of_docker_compose_may_listen():
    root = Path(__file__).parents[3]
    compose = yaml.safe_load((root / "docker-compose.yml").read_text())
    (host,) = re.findall(r"ENV (NONESUCH_GATEWAY_HOST)=(\S+)", (root / "deploy/Dockerfile").read_text())
    unset = {  # what compose makes of ${NAME:-default} where .env says nothing
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in compose["services"]["gateway"]["environment"].items()
    }
    env = {**dict([host]), **unset, "NONESUCH_REDIS_URL": "redis://redis"}
    settings = GatewaySettings.from_env(env)
    assert settings.host == "0.0.0.0"
    listen(settings.model_copy(update={"port": 0})).close()


def test_the_installed_command_has_it(path):
    command = [sys.executable, "-m", "nonesuch", "token"]
    refused = subprocess.run([*command, "create", "x", "--scope", "root"], capture_output=True, text=True)
    assert refused.returncode == 2 and "nonesuch: --scope 'root' is unknown" in refused.stderr
    made = subprocess.run([*command, "create", "x"], capture_output=True, text=True, check=True)
    assert made.stdout.startswith("nsk_") and str(path) in made.stderr
