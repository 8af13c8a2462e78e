"""Folders for sockets, whatever TMPDIR is."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from nonesuch.errors import InvalidValue
from nonesuch.host.private_ray import private_ray
from nonesuch.host.sockets import LONGEST, socket_folder
from nonesuch.local.private_redis import PrivateRedis

NAMES = ("plain", "job#42", "ünï", "a b", "100%25", "question?mark", "x" * 90)


@pytest.mark.parametrize("name", NAMES)
def test_a_private_redis_is_reached_wherever_temporary_files_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name if name == NAMES[-1] else Path(tempfile.mkdtemp(prefix=name, dir="/tmp"))
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with PrivateRedis() as private:  # which waits until it answers
        assert private.alive
    if name != NAMES[-1]:
        folder.rmdir()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [10, 70])
def test_a_folder_fits(name: str, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    assert len(os.fsencode(socket_folder(room))) + room <= LONGEST
    assert re.fullmatch(r"[\w/.-]+", str(socket_folder(room, plain=True)), re.ASCII)
    assert re.fullmatch(r"[\w/.-]+/ray", private_ray({})["_temp_dir"], re.ASCII)


def test_what_is_set_for_ray_stays() -> None:
    env = {"RAY_TMPDIR": "/somewhere", "RAY_AUTH_TOKEN_PATH": "/there", "HOME": "/proc/none"}
    assert private_ray(env) == {"_temp_dir": "/somewhere"}
    assert "RAY_AUTH_TOKEN" not in env


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null"])
def test_a_private_ray_needs_no_home_that_can_be_written(home: str) -> None:
    env, other = {"HOME": home}, {"HOME": home}
    private_ray(env)
    private_ray(other)
    assert len(env["RAY_AUTH_TOKEN"]) == 64 and env != other


def test_a_home_keeps_the_token(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    private_ray(env)
    assert "RAY_AUTH_TOKEN" not in env


def test_no_folder_names_the_variable() -> None:
    with pytest.raises(InvalidValue, match="set TMPDIR to a folder"):
        socket_folder(LONGEST)
