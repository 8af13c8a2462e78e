"""`make bench`: from the last lines of benchmarks to the table of docs/performance.md."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "# Performance\n\nBefore.\n\n<!-- table: make bench -->\nold\n<!-- end of table -->\n\nAfter.\n"

Bench = Callable[..., None]


def loaded(file: Path) -> ModuleType:
    """The runner that lies there; its folder is where it looks for benchmarks."""
    spec = importlib.util.spec_from_file_location("run_benchmarks", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the runner, a page, and no benchmark."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "docs/results").mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks/run.py", tmp_path / "benchmarks")
    (tmp_path / "docs/performance.md").write_text(PAGE)
    return tmp_path


@pytest.fixture
def bench(project: Path) -> Bench:
    """Runs benchmarks by their names."""
    runner = loaded(project / "benchmarks/run.py")
    return lambda *names: runner.main(list(names))


def benchmark(project: Path, name: str, ours: str = "1", *, then: str = "") -> None:
    """A benchmark that prints a line and its result."""
    result = {"name": name, "rows": [["small", f"peer of {name}", ours, "2"]], "more": 0.5}
    text = f"print('a table of {name}')\nprint({json.dumps(result)!r})\n{then}\n"
    (project / f"benchmarks/{name}.py").write_text(text)


def page(project: Path) -> str:
    return (project / "docs/performance.md").read_text()


def kept(project: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((project / "docs/results/benchmarks.json").read_bytes())
    return results


def test_every_result_becomes_a_row_and_the_rest_of_the_page_stays(
    project: Path, bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    benchmark(project, "alpha")
    benchmark(project, "beta")
    bench()
    text = page(project)
    assert text.startswith("# Performance\n\nBefore.\n\n<!-- table: make bench -->\n")
    assert text.endswith("<!-- end of table -->\n\nAfter.\n")
    assert "old" not in text
    assert [line for line in text.splitlines() if line.startswith("| `")] == [
        "| `alpha.py` | small | peer of alpha | 1 | 2 |",
        "| `beta.py` | small | peer of beta | 1 | 2 |",
    ]
    assert "a table of alpha" in capfd.readouterr().out
    assert kept(project)["alpha"]["result"]["more"] == 0.5
    machine = kept(project)["alpha"]["machine"]
    assert machine.keys() == {"processor", "cores", "gpu", "python", "torch", "redis"}
    assert f"alpha, beta: {machine['cores']} cores of {machine['processor']}" in text
    assert machine["torch"] in text


def test_one_that_is_run_again_leaves_the_others_as_they_are(project: Path, bench: Bench) -> None:
    benchmark(project, "alpha")
    benchmark(project, "beta")
    bench()
    benchmark(project, "alpha", ours="3")
    benchmark(project, "beta", ours="4")
    bench("alpha")
    assert "| peer of alpha | 3 |" in page(project)
    assert "| peer of beta | 1 |" in page(project)


@pytest.mark.parametrize("fault", ["raise SystemExit(3)", "print('no JSON')", "print('{}')", "print('[1]')"])
def test_one_that_fails_keeps_its_earlier_result_and_the_others_run(project: Path, bench: Bench, fault: str) -> None:
    benchmark(project, "alpha")
    bench()
    benchmark(project, "alpha", ours="5", then=fault)
    benchmark(project, "beta")
    with pytest.raises(SystemExit, match="failed: alpha"):
        bench()
    assert "| peer of alpha | 1 |" in page(project)
    assert "| peer of beta | 1 |" in page(project)


def test_a_name_that_is_none_runs_nothing(project: Path, bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    benchmark(project, "alpha")
    with pytest.raises(SystemExit, match=r"no benchmark gamma: there are alpha"):
        bench("gamma", "alpha")
    assert page(project) == PAGE
    assert "a table" not in capfd.readouterr().out


def test_a_benchmark_that_is_gone_takes_its_rows_with_it(project: Path, bench: Bench) -> None:
    benchmark(project, "alpha")
    benchmark(project, "beta")
    bench()
    (project / "benchmarks/alpha.py").unlink()
    bench("beta")
    assert "alpha" not in page(project)
    assert kept(project).keys() == {"beta"}


def test_a_page_without_markers_loses_no_result(project: Path, bench: Bench) -> None:
    benchmark(project, "alpha")
    (project / "docs/performance.md").write_text("# Performance\n")
    with pytest.raises(SystemExit, match="put them where the table belongs"):
        bench()
    assert kept(project)["alpha"]["result"]["rows"]
    assert page(project) == "# Performance\n"


def test_an_interrupt_keeps_what_was_measured(project: Path) -> None:
    benchmark(project, "alpha")
    benchmark(project, "beta", then="import time\ntime.sleep(60)")
    command = [sys.executable, str(project / "benchmarks/run.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("a table of beta"):
                process.send_signal(signal.SIGINT)
                break
        assert process.wait(30) == 130
    assert kept(project).keys() == {"alpha"}
    assert "| peer of alpha | 1 |" in page(project)
    assert page(project).endswith("After.\n")
    assert sorted(path.name for path in (project / "docs").iterdir()) == ["performance.md", "results"]


def test_our_page_shows_what_is_kept() -> None:
    runner = loaded(ROOT / "benchmarks/run.py")
    text = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert runner.replaced(text, runner.table(runner.known_results())) == text
