"""`python -m nonesuch_worker.pretrain CONFIG.toml --out FOLDER`."""

import typer

from nonesuch_worker.pretrain.cli import pretrain_command

if __name__ == "__main__":
    typer.run(pretrain_command)
