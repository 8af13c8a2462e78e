"""The service on this machine: what it writes, and where it says that it is."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from nonesuch.local.service import CLUSTER, LocalService


def test_a_service_beside_others_leaves_their_logs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalService, "_spawn", lambda service, name, *options: (service.logs / name).write_text("new"))
    monkeypatch.setattr(LocalService, "_wait_until_ready", lambda service: None)
    folder = tmp_path / "runs" / "up"
    with ExitStack() as stack:
        services = [stack.enter_context(LocalService(logs=folder, private=True)) for _ in range(3)]
        assert [s.logs.name for s in services] == ["up", "up-2", "up-3"]
    with LocalService(logs=folder, private=True) as later:
        assert later.logs == folder


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")])
def test_its_url_can_be_opened(host: str, url: str, tmp_path: Path) -> None:
    assert LocalService(logs=tmp_path, host=host).url == url


def test_its_parts_join_nobody_elses_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def popen(command: list[str], *, env: dict[str, str], **options: object) -> None:
        given.update(env)

    for name in CLUSTER:
        monkeypatch.setenv(name, "1")
    service = LocalService(logs=tmp_path)
    monkeypatch.setattr("nonesuch.local.service.subprocess.Popen", popen)
    service._spawn("worker")
    assert given and not given.keys() & set(CLUSTER)
