"""Run the benchmarks one after the other and write their figures down: `make bench`, or `make bench ONLY=generator`.

    python benchmarks/run.py [NAME ...]

A benchmark prints what it likes and, last, one line of JSON: an object with its `name`, and `rows` for the table of
`docs/performance.md`, each `[what, peer, ours, ratio]` in words. So a new benchmark is one new file. Each result is
kept in `docs/results/benchmarks.json`, with the machine that it comes from, as soon as it is there; a benchmark that
fails leaves what was known of it, and the command ends with exit code 1.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nonesuch.host.cores import available_cores
from nonesuch.host.files import write_atomically
from nonesuch.local.private_redis import find_redis_server

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "docs" / "results" / "benchmarks.json"
PAGE = FOLDER.parent / "docs" / "performance.md"
BEGIN, END = "<!-- table: make bench -->", "<!-- end of table -->"
HEADER = "| benchmark | | peer | ours | ratio |\n|---|---|---|---|---|\n"

Results = dict[str, dict[str, Any]]
"""By the benchmark's file name, `{"machine": ..., "result": its last line}`."""


def benchmarks() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path != Path(__file__))


def run(name: str) -> dict[str, Any] | None:
    """Run one, its output passed through. Its last line, or None if it failed or ended in something else."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    line = ""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    try:
        result: Any = json.loads(line)
    except ValueError:
        result = None
    if process.returncode or not isinstance(result, dict) or "rows" not in result:
        print(f"{name}: exit code {process.returncode}, and no line of JSON with rows at its end", file=sys.stderr)
        return None
    return result


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    redis = subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "processor": processor(),
        "cores": available_cores(),
        "gpu": gpu(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "redis": next(word.removeprefix("v=") for word in redis.split() if word.startswith("v=")),
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name, as Linux has it; some virtual machines keep the model to themselves, but not the family."""
    lines = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in cpuinfo.read_text().splitlines())
        if value
    }
    family = f" (family {lines['cpu family']}, model {lines['model']})" if "cpu family" in lines else ""
    return lines.get("model name", platform.machine()) + family


def gpu() -> str | None:
    """The first one's name."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def table(results: Results) -> str:
    """The results in Markdown."""
    rows = [
        f"| `{name}.py` | {' | '.join(str(cell) for cell in row)} |\n"
        for name, known in sorted(results.items())
        for row in known["result"]["rows"]
    ]
    machines = {json.dumps(known["machine"], sort_keys=True): known["machine"] for known in results.values()}
    notes = [
        f"{', '.join(sorted(n for n, known in results.items() if known['machine'] == m))}: {m['cores']} cores of "
        f"{m['processor']}, {m['gpu'] or 'no GPU'}; Python {m['python']}, torch {m['torch']}, Redis {m['redis']}.\n"
        for m in machines.values()
    ]
    return HEADER + "".join(rows) + "\n" + "".join(notes)


def replaced(page: str, text: str) -> str:
    """The page with the text between its markers. Raises `SystemExit` if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no {BEGIN} with a {END} after it: put them where the table belongs")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def known_results() -> Results:
    results: Results = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    return {name: known for name, known in results.items() if name in benchmarks()}


def main(names: list[str]) -> None:
    if unknown := set(names) - set(benchmarks()):
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}: there are {', '.join(benchmarks())}")
    results, here, failed = known_results(), machine(), []
    for name in names or benchmarks():
        print(f"== {name}", flush=True)
        result = run(name)
        if result is None:
            failed.append(name)
            continue
        results[name] = {"machine": here, "result": result}
        write_atomically(RESULTS, (json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
        write_atomically(PAGE, replaced(PAGE.read_text(encoding="utf-8"), table(results)).encode())
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
