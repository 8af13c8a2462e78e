"""`nonesuch up`: the whole service on this machine, until Ctrl-C."""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live

from nonesuch.host.terminal import terminal

if TYPE_CHECKING:
    from nonesuch.link import Link
    from nonesuch.local.service import LocalService

log = logging.getLogger(__name__)


def up(
    workers: Annotated[int, typer.Option(min=1, help="CPU workers (a machine with GPUs gets one for each GPU).")] = 1,
    host: Annotated[str, typer.Option(help="Address that the gateway listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that the gateway listens on.")] = 8000,
    generator: Annotated[
        list[str] | None,
        typer.Option(help="A generator to host: a name (`nonesuch generators list`), a folder, or family:argument."),
    ] = None,
    logs: Annotated[Path, typer.Option(help="Folder for the logs of the parts.")] = Path("runs/up"),
) -> None:
    """Start Redis (unless NONESUCH_REDIS_URL names one), workers and gateway; show what they do; stop on Ctrl-C."""
    from nonesuch.host.process import on_signal
    from nonesuch.link import Link
    from nonesuch.local.service import LocalService

    console = terminal()
    asked = threading.Event()  # an exception would be lost where Python ignores it, as in a destructor
    service = LocalService(
        logs=logs, workers=workers, host=host, port=port, generators=tuple(generator or ()), on_step=console.print
    )
    try:
        with service, on_signal(asked.set), Link(service.redis) as link:
            console.print(
                f"ready: {service.url}  (Redis {service.redis.safe_url}; logs in {service.logs}; Ctrl-C stops)"
            )
            _watch(console, service, link, asked)
    except KeyboardInterrupt:  # while it started
        pass
    console.print("stopped")


def _watch(console: Console, service: "LocalService", link: "Link", asked: threading.Event) -> None:
    """Show the status until asked to stop. Raises `ServiceError` when a part of the service ends, and nothing of what
    may go wrong with the status: it is there to be looked at, and must end nothing.
    """
    from nonesuch.errors import NonesuchError
    from nonesuch.local.status import as_table, one_line, rate_of
    from nonesuch.stats import read_stats

    before = None
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while not asked.is_set():
            service.check()
            try:
                now = link.run(read_stats(link.keys))
                rate = rate_of(now, before)
                if console.is_terminal:
                    live.update(as_table(now, rate, str(service.url)), refresh=True)
                else:
                    live.console.print(one_line(now, rate))
                before = now
            except NonesuchError as error:
                live.console.print(f"no status: {error}", markup=False)
            except Exception as error:
                log.debug("no status", exc_info=True)
                live.console.print(f"no status: {type(error).__name__}: {error}", markup=False)
            asked.wait(1.0 if console.is_terminal else 10.0)
