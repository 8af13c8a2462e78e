"""The `nonesuch` command: its help takes no heavy package."""

import subprocess
import sys

HEAVY = ("pydantic", "redis", "numpy", "pyarrow", "httpx", "jsonschema", "torch", "ray", "fastapi", "uvicorn")


def test_the_application_is_built_without_any_heavy_package() -> None:
    build = (
        "from nonesuch.cli.main import make_app\n"
        "make_app()\n"
        "import sys\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", build], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
