"""The commands as their users type them: what they make, what they refuse, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from service import ANALYTIC, eventually, keys_of, serving, workers

from nonesuch.config import RedisSettings
from nonesuch.link import Link
from nonesuch.local import free_port


def nonesuch(
    *arguments: str, env: dict[str, str] | None = None, timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nonesuch", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, session_redis):
    """One service with a gateway for the tests of this module. It has the namespace `e2e` for itself."""
    logs = tmp_path_factory.mktemp("logs")
    redis = RedisSettings(url=session_redis.url, namespace="e2e")
    with serving(redis, logs, workers=1, port=free_port()) as (service, link):
        yield service, link


def environment(service) -> dict[str, str]:
    return {"NONESUCH_REDIS_URL": service.redis.url, "NONESUCH_NAMESPACE": service.redis.namespace}


def test_an_order_becomes_the_same_images_in_parquet_and_in_arrow(running, tmp_path: Path) -> None:
    service, link = running
    tables = []
    for name in ("a.parquet", "b.arrow"):
        done = nonesuch(
            "order", "300", "--out", str(tmp_path / name), "--generator", "analytic", "--seed", "7",
            "--classes", "class 3,class 5", "--param", "sigma=1.5", env=environment(service),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "300 images of 2 classes" in done.stderr
    tables.append(pq.read_table(tmp_path / "a.parquet"))
    with pa.ipc.open_file(tmp_path / "b.arrow") as file:
        tables.append(file.read_all())
    for column in ("image", "label", "index", "sigma", "seed"):
        assert tables[0].column(column).to_pylist() == tables[1].column(column).to_pylist()
    assert tables[0].column("index").to_pylist() == list(range(300))
    assert set(tables[0].column("label").to_pylist()) == {3, 5}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.arrow"]
    assert not [k for k in keys_of(link) if ":order:" in k or ":ring:" in k]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generator", "nobody"], "no worker hosts a generator 'nobody'; hosted now: analytic"),
        (["--classes", "class 33"], "unknown class 'class 33': did you mean class 3"),
        (["--param", "sigma=-1"], "-1 is less than or equal to the minimum of 0"),
        (["--param", "sigma"], "'sigma' is not of the form name=value"),
        (["--param", "sigma=3", "--param", "truncation=0.5"], "sigma 3 cannot be used: 1.0 was expected (truncation"),
        (["--strategy", "magic"], "unknown strategy 'magic': the workers know random"),
        (["--out", "images.png"], "ends in neither .parquet nor .arrow"),
    ],
)
def test_bad_orders_are_one_clear_line(running, tmp_path: Path, arguments: list[str], message: str) -> None:
    service, link = running
    given = ["--out", str(tmp_path / "o.parquet"), "--generator", "analytic", *arguments]
    done = nonesuch("order", "10", *given, env=environment(service))
    assert done.returncode in (1, 2)
    assert message in done.stderr and done.stderr.startswith("nonesuch: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert not [k for k in keys_of(link) if ":order:" in k or ":ring:" in k]


def test_the_same_workers_answer_http(running) -> None:
    service, link = running
    body = json.dumps({"count": 100, "generator": "analytic", "seed": 3}).encode()
    request = urllib.request.Request(f"{service.url}/v1/batches", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(reply.read()).read_all()
    assert table.column("index").to_pylist() == list(range(100))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(
            urllib.request.Request(f"{service.url}/v1/batches", b'{"count": -1}', {"Content-Type": "application/json"}),
            timeout=60,
        )
    with refused.value as problem:
        assert problem.code == 422
        assert problem.headers["Content-Type"] == "application/problem+json"
    eventually(lambda: not [k for k in keys_of(link) if ":order:" in k or ":ring:" in k])


def test_without_a_service_the_remedy_is_named(tmp_path: Path, redis_url: str) -> None:
    out = str(tmp_path / "o.parquet")
    done = nonesuch("order", "10", "--out", out, env={"NONESUCH_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert done.returncode == 1
    assert "no answer from Redis at redis://127.0.0.1:1/0" in done.stderr and "nonesuch up" in done.stderr
    done = nonesuch("order", "10", "--out", out, env={"NONESUCH_REDIS_URL": redis_url})
    assert done.returncode == 1
    assert "no worker is connected" in done.stderr and "nonesuch worker" in done.stderr


def test_doctor_names_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    done = nonesuch("doctor", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "FAIL real images" in done.stdout and "dataset-fashion-mnist" in done.stdout
    done = nonesuch("doctor", env={"NONESUCH_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert done.returncode == 1 and "FAIL redis" in done.stdout
    done = nonesuch("doctor", env={"NONESUCH_REDIS_URL": "http://somewhere"})
    assert done.returncode == 1 and "redis://, rediss:// or unix://" in done.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_stops_cleanly(redis_url: str, tmp_path: Path, number: int) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "nonesuch", "up", "--port", str(port), "--generator", ANALYTIC, "--logs", "logs"],
        cwd=tmp_path,
        env={**os.environ, "NONESUCH_REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with Link(RedisSettings(url=redis_url)) as link:
        assert process.stdout is not None
        lines = []
        while not (lines and lines[-1].startswith("ready")):
            line = process.stdout.readline()
            assert line, lines
            lines.append(line)
        pids = [w.pid for w in workers(link)]
        assert len(pids) == 1
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "stopped" in rest
        assert keys_of(link) == set()
    for pid in pids:
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    children = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout
    assert children == ""
