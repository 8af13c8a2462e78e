"""`nonesuch node`: this machine as a node of a Ray cluster, for a fleet elsewhere to put workers on."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def node(address: Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="host:port of the Ray head.")]) -> None:
    """Join a Ray cluster until Ctrl-C or SIGTERM; workers here then finish their tickets. Ends with code 1 when Ray
    does, or when the head is gone: whoever started this starts it again.
    """
    from nonesuch.host.cores import available_cores
    from nonesuch.host.process import on_signal
    from nonesuch_worker.settings import OBJECT_STORE_BYTES

    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
        f"--address={address}", f"--num-cpus={available_cores()}", f"--object-store-memory={OBJECT_STORE_BYTES}",
    ]  # fmt: skip
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        ray.terminate()

    ray = subprocess.Popen(command)
    with on_signal(stop):
        code = ray.wait()
    if not stopping:  # when it is told to stop, too, Ray ends with 1
        typer.echo(f"node: ray start ended with code {code}", err=True)
        raise typer.Exit(1)
