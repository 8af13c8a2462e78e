"""The commands as their users type them: what they make, what they refuse, and what they leave behind."""

import io
import json
import os
import platform
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nonesuch.config import RedisSettings
from nonesuch.host.allocator import KEPT_FAULTS
from nonesuch.host.cores import available_cores
from nonesuch.link import Link
from nonesuch.local.service import free_port
from tests.helpers.certificates import make_certificate
from tests.helpers.service import ANALYTIC, eventually, keys_of, serving, workers


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
    tables, pixels = [], []
    for name in ("a.parquet", "b.arrow"):
        done = nonesuch(
            "order", "300", "--out", str(tmp_path / name), "--generator", "analytic", "--seed", "7",
            "--classes", "class 3,class 5", "--param", "sigma=1.5", env=environment(service),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "300 images of 2 classes" in done.stderr
    tables.append(pq.read_table(tmp_path / "a.parquet"))
    for row in (0, 299):
        with Image.open(io.BytesIO(tables[0]["image"][row].as_py()["bytes"])) as image:
            pixels.append(np.asarray(image))
    with pa.ipc.open_file(tmp_path / "b.arrow") as file:
        tables.append(file.read_all())
    images = tables[1]["image"].combine_chunks().to_numpy_ndarray()
    assert all(np.array_equal(found, images[row, ..., 0]) for found, row in zip(pixels, (0, 299), strict=True))
    for column in ("label", "index", "sigma", "seed", "strategy"):
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
        (["--param", "sigma=-1"], "sigma -1 cannot be used: give a number above 0"),
        (["--param", "sigma"], "'sigma' is not of the form name=value"),
        (["--param", "sigma=3", "--param", "truncation=0.5"], "sigma 3 cannot be used: 1.0 was expected (truncation"),
        (["--strategy", "magic"], "unknown strategy 'magic': the workers know filtered, hsm, mixture"),
        (["--out", "images.png"], "ends in none of .arrows, .arrow, .parquet"),
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


def test_doctor_says_how_the_running_workers_were_started(running) -> None:
    service, link = running
    [worker] = workers(link)
    assert worker.threads in range(1, available_cores() + 1)  # MKL takes physical cores only
    done = nonesuch("doctor", env=environment(service))
    [line] = [line for line in done.stdout.splitlines() if f" worker {worker.id}: " in line]
    assert f"cpu on {worker.host}, threads: {worker.threads}, " in line
    if platform.libc_ver()[0] == "glibc":
        assert worker.block_faults is not None and worker.block_faults <= KEPT_FAULTS
        assert line.startswith("ok ")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("number", "scheme"), [(signal.SIGINT, "http"), (signal.SIGTERM, "https")])
def test_up_stops_cleanly(redis_url: str, tmp_path: Path, number: int, scheme: str) -> None:
    port = free_port()
    tls = {}
    if scheme == "https":
        certificate, key = make_certificate(tmp_path)
        tls = {"NONESUCH_GATEWAY_TLS_CERTIFICATE": str(certificate), "NONESUCH_GATEWAY_TLS_KEY": str(key)}
    process = subprocess.Popen(
        [sys.executable, "-m", "nonesuch", "up", "--port", str(port), "--generator", ANALYTIC, "--logs", "logs"],
        cwd=tmp_path,
        env={**os.environ, "NONESUCH_REDIS_URL": redis_url, **tls},
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
        assert f"{scheme}://127.0.0.1:{port} " in lines[-1]
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


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier file of the analytic generator's images that knows nothing: it takes most of them for one class."""
    from nonesuch.classifiers.file import write_classifier
    from nonesuch.classifiers.registry import build
    from nonesuch.classifiers.spec import ClassifierSpec
    from nonesuch.snapshots import SnapshotHeader

    spec = ClassifierSpec(architecture="resnet18", args={"width": 4})
    header = SnapshotHeader(
        channel="any", version=0, architecture=spec.architecture, args=spec.args, image_shape=(16, 16, 1), classes=10,
        mean=(0.5,), std=(0.5,), epoch=0, step=0, sha256="0" * 64,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("teacher") / "classifier.safetensors"
    write_classifier(path, header, build(spec, in_channels=1, classes=10, image_size=16))
    return path


def test_a_teacher_is_published_filters_and_is_withdrawn(running, teacher: Path, tmp_path: Path) -> None:
    service, link = running
    env = environment(service)
    shown = nonesuch("classifier", "show", str(teacher))
    assert "resnet18" in shown.stdout and "images 16 x 16 x 1, 10 classes" in shown.stdout
    assert "training (labelled real images: not stated, so taken for granted)" in shown.stdout

    published = nonesuch("classifier", "publish", str(teacher), env=env)
    assert published.returncode == 0 and "version 0 of channel 'teacher'" in published.stderr
    assert "version 1" in nonesuch("classifier", "publish", str(teacher), env=env).stderr

    out, counts = tmp_path / "kept.parquet", tmp_path / "kept.json"
    done = nonesuch(
        "order", "200", "--out", str(out), "--generator", "analytic", "--strategy", "filtered",
        "--teacher", "teacher@1", "--param", "threshold=0", "--param", "attempts=3", "--acceptance", str(counts),
        env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pq.read_table(out)
    assert f"{200 - len(table)} images are short" in done.stderr and len(table) < 200
    assert "teacher (labelled real images" in " ".join(done.stderr.split())
    classes = json.loads(counts.read_text())["classes"]
    assert sum(row["kept"] for row in classes) == len(table)
    assert sum(row["short"] for row in classes) == 200 - len(table)
    assert all(row["tried"] == row["kept"] + row["wrong_label"] + row["below_threshold"] for row in classes)
    picture = tmp_path / "kept.png"
    assert nonesuch("acceptance", str(counts), str(picture)).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(table.schema.metadata[b"nonesuch.ledger"])["uses"][-1]["by"] == "teacher"

    assert "withdrew 2 classifiers" in nonesuch("classifier", "withdraw", "teacher", env=env).stderr
    gone = nonesuch("order", "10", "--out", str(tmp_path / "x.parquet"), "--generator", "analytic",
                    "--strategy", "filtered", "--teacher", "teacher", env=env)  # fmt: skip
    assert gone.returncode == 1 and "no snapshot was published in channel 'teacher'" in gone.stderr
    assert not [k for k in keys_of(link) if ":order:" in k or ":ring:" in k or ":snapshots:" in k]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "filtered"], "filtered needs a teacher"),
        (["--strategy", "hsm"], "hsm needs a snapshot"),
        (["--strategy", "hsm", "--snapshot", "nobody"], "no snapshot was published in channel 'nobody'"),
        (["--strategy", "hsm", "--snapshot", "a b@x"], "is not of the form channel or channel@version"),
        (["--param", "soft_labels=true"], "random with soft_labels needs a teacher"),
        (["--generator", "analytic"], "uses one generator and the order names 2"),
        (["--strategy", "filtered", "--teacher", "t", "--param", "threshold=1"], "threshold 1 cannot be used"),
        (["--strategy", "hsm", "--snapshot", "s", "--param", "eta=-0.1"], "eta -0.1 cannot be used"),
    ],
)
def test_methods_without_what_they_need_are_refused_at_the_border(
    running, tmp_path: Path, arguments: list[str], message: str
) -> None:
    service, _ = running
    given = ["--out", str(tmp_path / "x.parquet"), "--generator", "analytic", *arguments]
    done = nonesuch("order", "10", *given, env=environment(service))
    assert done.returncode in (1, 2)
    assert message in " ".join(done.stderr.split()), done.stderr
