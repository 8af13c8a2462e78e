"""The `nonesuch` command. Each installed package adds its commands by entry points of group `nonesuch.commands`.

Modules of commands import lightly; what they need is imported when they run. So `nonesuch --help` is quick, and a
machine that has only the gateway's packages is told which extra is missing when it is asked to train.
"""

import logging
import signal
import sys
from importlib.metadata import entry_points
from types import FrameType
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from nonesuch.errors import InvalidValue, NonesuchError
from nonesuch.host.release import VERSION
from nonesuch.host.stopping import Terminated, exit_code
from nonesuch.host.terminal import terminal
from nonesuch.host.writing import remedy_of

ORDER = (
    "demo", "up", "train", "order", "adapt", "classifier", "generators", "evaluate", "calibrate",
    "condition", "acceptance", "doctor", "worker", "node", "gateway", "init", "token", "pretrain",
)  # fmt: skip
"""How the help lists the commands; those of other packages follow."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nonesuch {VERSION}")
        raise typer.Exit


class _Commands(TyperGroup):
    """The commands. What interrupts one decides what it ends with: Typer alone would take every signal for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            typer.echo("stopped", err=True)
            raise typer.Exit(exit_code(stopped)) from stopped


def make_app() -> typer.Typer:
    """The application with every installed command."""
    app = typer.Typer(
        cls=_Commands,
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
    """Run the command line. Whatever ends a command, its user gets a line with a remedy; with --verbose the traceback
    too.
    """
    signal.signal(signal.SIGTERM, _terminated)  # `kill` ends a command as cleanly as Ctrl-C
    try:
        make_app()()
    except KeyboardInterrupt as stopped:  # before a command ran
        terminal(stderr=True).print("stopped")
        sys.exit(exit_code(stopped))
    except Exception as error:
        said = Text.assemble(("nonesuch:", "bold red"), " ", _message(error))
        terminal(stderr=True).print(said)
        log.debug("where it came from:", exc_info=error)
        sys.exit(2 if isinstance(error, InvalidValue) else 1)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _message(error: Exception) -> str:
    """What a person reads: our own errors as they are, and of others a line that says what to do."""
    name = type(error).__name__
    words = " ".join(str(error).split()) or name
    if isinstance(error, NonesuchError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").split(".")[0])):
        return f"{error.name} is not installed: {extra}"
    if isinstance(error, MemoryError) or name in _NO_MEMORY or "can't allocate memory" in words:
        return f"there is not enough memory: {words[:300]}. Take a smaller batch or size, or end other programs"
    if isinstance(error, OSError) and (remedy := remedy_of(error)):
        return f"{words}: {remedy}"
    return f"{name}: {words[:500]}. {_REPORT}"


log = logging.getLogger(__name__)

_NO_MEMORY = ("OutOfMemoryError", "ArrowMemoryError")
"""The errors of libraries that are no `MemoryError`."""
_REPORT = "This was not foreseen: `nonesuch --verbose` and the same words show where it came from; please report that"

_EXTRAS = {
    **dict.fromkeys(("ray", "pytorch_pretrained_biggan", "nonesuch_worker"), "pip install 'nonesuch[worker]'"),
    **dict.fromkeys(("matplotlib", "tensorboard", "nonesuch_trainer"), "pip install 'nonesuch[trainer]'"),
    **dict.fromkeys(("fastapi", "uvicorn", "nonesuch_gateway"), "pip install 'nonesuch[gateway]'"),
    "torch": "pip install 'nonesuch[worker]' to mint, or pip install 'nonesuch[trainer]' to train",
}
"""What to do about a package that is not there."""
