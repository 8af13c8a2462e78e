"""`nonesuch init`: what it makes, what it leaves alone, and what it refuses."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nonesuch.cli.main import make_app
from nonesuch.errors import InvalidValue, NotWritable
from nonesuch.link.users import USERS, access_list
from nonesuch_gateway.access.secret_files import make_secrets
from nonesuch_gateway.access.tokens import Tokens

MADE = {
    "redis/users.acl",
    "gateway/redis.password",
    "gateway/tokens.json",
    "worker/redis.password",
    "worker/ray.token",
    "trainer/redis.password",
    "operator/redis.password",
    "operator/gateway.token",
    "prometheus/gateway.token",
    "grafana/admin.password",
}


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_it_makes_what_is_missing_once(tmp_path: Path) -> None:
    assert set(make_secrets(tmp_path)) == MADE
    before = contents(tmp_path)
    assert before.keys() == MADE
    assert list(make_secrets(tmp_path)) == []
    assert contents(tmp_path) == before


def test_every_secret_is_another_and_for_its_owner_alone(tmp_path: Path) -> None:
    list(make_secrets(tmp_path))
    secrets = [
        text for name, text in contents(tmp_path).items() if name not in ("redis/users.acl", "gateway/tokens.json")
    ]
    assert len(set(secrets)) == len(secrets)
    assert min(map(len, secrets)) >= 64
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


def test_redis_list_follows_the_passwords(tmp_path: Path) -> None:
    list(make_secrets(tmp_path))
    (tmp_path / "worker/redis.password").unlink()  # how one is changed
    assert set(make_secrets(tmp_path)) == {"worker/redis.password", "redis/users.acl"}
    passwords = {user: (tmp_path / user / "redis.password").read_text() for user in USERS}
    assert (tmp_path / "redis/users.acl").read_text() == access_list(passwords)


def test_the_first_token_opens_the_gateway(tmp_path: Path) -> None:
    list(make_secrets(tmp_path))
    token = Tokens(tmp_path / "gateway/tokens.json").check((tmp_path / "operator/gateway.token").read_text().strip())
    assert token.allows("admin")


@pytest.mark.parametrize("secret", ["", "changeme", "short" * 6, "spaces in it " * 5, "é" * 40])
def test_what_is_no_secret_is_refused_and_not_shown(tmp_path: Path, secret: str) -> None:
    list(make_secrets(tmp_path))
    (tmp_path / "gateway/redis.password").write_text(secret)
    with pytest.raises(
        InvalidValue, match=r"gateway/redis\.password is no secret: it must have 32 .* Remove it"
    ) as error:
        list(make_secrets(tmp_path))
    assert not secret or secret not in str(error.value)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("a file where a folder is to be")
    with pytest.raises(NotWritable, match=r"worker.*must belong to the user that runs `nonesuch init`"):
        list(make_secrets(tmp_path))


def test_the_command_says_what_it_made_and_no_secret(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    said = CliRunner().invoke(make_app(), ["init", "--folder", str(folder)]).output
    assert [line.removeprefix(f"made {folder}/") for line in said.splitlines()] != []
    assert {line.removeprefix(f"made {folder}/") for line in said.splitlines()} == MADE
    assert not [secret for secret in contents(folder).values() if secret.strip() in said]
    assert CliRunner().invoke(make_app(), ["init", "--folder", str(folder)]).output == f"{folder} has everything\n"
