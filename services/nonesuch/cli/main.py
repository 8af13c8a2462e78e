"""The `nonesuch` command. Each installed package adds its commands by entry points of group `nonesuch.commands`.

Modules of commands import lightly; what they need is imported when they run. So `nonesuch --help` is quick, and a
machine that has only the gateway's packages is told which extra is missing when it is asked to train.
"""

import logging
import signal
import sys
from importlib.metadata import entry_points
from types import FrameType

import typer
from rich.console import Console

from nonesuch.errors import InvalidValue, NonesuchError
from nonesuch.host.release import VERSION
from nonesuch.host.stopping import Terminated

ORDER = (
    "demo", "up", "train", "order", "adapt", "classifier", "generators", "evaluate", "calibrate",
    "condition", "acceptance", "doctor", "worker", "node", "gateway", "init", "token", "pretrain",
)  # fmt: skip
"""How the help lists the commands; those of other packages follow."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nonesuch {VERSION}")
        raise typer.Exit


def make_app() -> typer.Typer:
    """The application with every installed command."""
    app = typer.Typer(
        help="Labelled training images that do not exist, minted on demand.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def options(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens inside."),
    ) -> None:
        logging.basicConfig(
            level=logging.DEBUG if verbose else logging.INFO,
            stream=sys.stderr,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )

    commands = {point.name: point for point in entry_points(group="nonesuch.commands")}
    for name in sorted(commands, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n)):
        command = commands[name].load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """Run the command line. Errors that we raise on purpose are one message, not a traceback."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, _terminated)  # `kill` ends a command as cleanly as Ctrl-C
    try:
        make_app()()
    except InvalidValue as error:
        console.print(f"[bold red]nonesuch:[/] {_plain(error)}")
        sys.exit(2)
    except NonesuchError as error:
        console.print(f"[bold red]nonesuch:[/] {_plain(error)}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        console.print(f"[bold red]nonesuch:[/] {error.name} is not installed: pip install 'nonesuch{_plain(extra)}'")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _plain(text: object) -> str:
    return str(text).replace("[", "\\[")


_EXTRAS = {
    "ray": "[worker]",
    "pytorch_pretrained_biggan": "[worker]",
    "nonesuch_worker": "[worker]",
    "torch": "[worker] or [trainer]",
    "matplotlib": "[trainer]",
    "tensorboard": "[trainer]",
    "nonesuch_trainer": "[trainer]",
    "fastapi": "[gateway]",
    "uvicorn": "[gateway]",
    "nonesuch_gateway": "[gateway]",
}
