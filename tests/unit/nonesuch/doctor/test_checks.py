"""What the doctor says of cores, threads and memory, on machines that are made up."""

from collections.abc import Iterator

import pytest

from nonesuch.doctor import checks as doctor
from nonesuch.doctor.checks import Context, Finding, diagnose
from nonesuch.errors import ServiceError
from nonesuch.host.cores import Cores
from nonesuch.host.process import RAY_SETTINGS, THREADS
from nonesuch.offers import WorkerInfo
from nonesuch_worker.fleet import checks

CONTEXT = Context()
KEEPS, GIVES_BACK = (0, 1), (0, 16_385)


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores, 3 of them granted; nothing is set."""
    for name in (*RAY_SETTINGS, THREADS, "NONESUCH_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "cores", lambda: Cores(64, 32, 3.5))
    monkeypatch.setattr("nonesuch.host.process.available_cores", lambda: 3)
    monkeypatch.setattr(checks, "available_cores", lambda: 3)
    monkeypatch.setattr(doctor, "faults_in", lambda environment: KEEPS)
    monkeypatch.setattr("sys.platform", "linux")


def only(findings: Iterator[Finding], what: str) -> Finding:
    [found] = [finding for finding in findings if finding.what == what]
    return found


def test_the_limits_of_a_container_and_the_threads_that_follow() -> None:
    found = only(doctor._cores(CONTEXT), "cores")
    assert found.verdict == "ok"
    assert found.detail == "3 of 64 (affinity 32, a quota of 3.5), so tensor work starts with OMP_NUM_THREADS=3"


@pytest.mark.parametrize(("asked", "verdict"), [("2", "ok"), ("3", "ok"), ("4", "note")])
def test_what_the_user_asks_for_is_named(monkeypatch: pytest.MonkeyPatch, asked: str, verdict: str) -> None:
    monkeypatch.setenv(THREADS, asked)
    found = only(doctor._cores(CONTEXT), "cores")
    assert found.verdict == verdict and f"OMP_NUM_THREADS={asked} is set" in found.detail
    assert bool(found.remedy) == (verdict == "note")


def test_the_allocator_is_judged_by_what_it_does_on_either_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = only(doctor._cpu_settings(CONTEXT), "allocator")
    assert found.verdict == "ok" and "0 page faults for a block of 64 MiB, 1 on another thread" in found.detail
    monkeypatch.setattr(doctor, "faults_in", lambda environment: GIVES_BACK)
    found = only(doctor._cpu_settings(CONTEXT), "allocator")
    assert found.verdict == "note" and "16385 on another thread" in found.detail and "use glibc" in found.remedy


def test_an_allocator_that_cannot_be_measured_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(environment: dict[str, str]) -> tuple[int, int]:
        raise ServiceError("it failed: MemoryError")

    monkeypatch.setattr(doctor, "faults_in", fails)
    found = only(doctor._cpu_settings(CONTEXT), "allocator")
    assert (found.verdict, found.remedy) == ("fail", "it failed: MemoryError")


def test_it_is_measured_with_the_user_s_settings_and_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(doctor, "faults_in", lambda environment: measured.append(environment) or KEEPS)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=2")
    found = only(doctor._cpu_settings(CONTEXT), "cpu settings")
    assert found.verdict == "note" and found.detail == "GLIBC_TUNABLES=glibc.malloc.hugetlb=2"
    assert [environment["GLIBC_TUNABLES"] for environment in measured] == ["glibc.malloc.hugetlb=2"]


def test_where_none_of_it_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    [found] = doctor._cpu_settings(CONTEXT)
    assert found.verdict == "note" and "darwin" in found.detail


@pytest.mark.parametrize(
    ("modes", "mode", "verdict"),
    [("always [madvise] never", "madvise", "ok"), ("[always] madvise never", "always", "ok"),
     ("always madvise [never]", "never", "note")],
)  # fmt: skip
def test_the_kernel_s_huge_pages(modes: str, mode: str, verdict: str) -> None:
    found = doctor._huge_pages(modes)
    assert (found.detail, found.verdict) == (mode, verdict)


@pytest.mark.parametrize(
    ("said", "verdict", "words"),
    [
        ({"threads": 2, "block_faults": 0}, "ok", "cpu on there, threads: 2, 0 page faults for a block of 64 MiB"),
        ({"threads": 2, "block_faults": 33}, "note", "its allocator does not keep it"),
        ({}, "ok", "cpu on there, threads not said, page faults not counted"),
    ],
)
def test_a_running_worker(said: dict[str, int], verdict: str, words: str) -> None:
    worker = WorkerInfo(id="w", host="there", pid=1, device="cpu", started=0.0, generators=(), strategies=(), **said)
    found = doctor._worker(worker)
    assert (found.what, found.verdict) == ("worker w", verdict) and words in found.detail
    assert bool(found.remedy) == (verdict == "note")


@pytest.mark.parametrize(
    ("gpus", "given", "words"),
    [(0, "", "starts 1 (or --workers N, which share the cores), each with OMP_NUM_THREADS=3"),
     (2, "", "starts 2 (one for each GPU), each with OMP_NUM_THREADS=1"),
     (0, "2", "each with OMP_NUM_THREADS=2")],
)  # fmt: skip
def test_the_fleet_that_would_start_here(monkeypatch: pytest.MonkeyPatch, gpus: int, given: str, words: str) -> None:
    monkeypatch.setenv("NONESUCH_THREADS", given)
    found = checks._fleet(gpus)
    assert found.verdict == "ok" and words in found.detail


def test_a_fleet_that_would_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NONESUCH_THREADS", "none")
    found = checks._fleet(0)
    assert found.verdict == "fail" and "threads" in found.remedy


def test_bfloat16_is_named_as_linux_does(tmp_path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert checks._bf16(cpuinfo) == "unknown"
    cpuinfo.write_text("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n")
    assert checks._bf16(cpuinfo) == "by avx512_bf16 and amx_bf16"
    cpuinfo.write_text("flags\t\t: fpu avx2\n")
    assert checks._bf16(cpuinfo) == "not in hardware"


def test_all_of_it_is_in_the_diagnosis() -> None:
    there = {finding.what for finding in diagnose(CONTEXT)}
    assert {"cores", "cpu settings", "allocator", "device", "cpu", "fleet"} <= there
