"""`nonesuch acceptance`: a picture of what a filter has kept and rejected."""

from pathlib import Path
from typing import Annotated

import typer


def acceptance(
    counts: Annotated[Path, typer.Argument(help="What `nonesuch order --acceptance` has written.")],
    out: Annotated[Path, typer.Argument(help="The picture to write, a PNG.")],
) -> None:
    """Plot, class by class, which images were kept, and which were rejected by their label or by the threshold."""
    import json

    from nonesuch.errors import DataNotFound, IntegrityError
    from nonesuch.tally import Tally
    from nonesuch_trainer.reporting.acceptance import save_acceptance

    try:
        document = json.loads(counts.read_bytes())
        tally, class_names = Tally.from_counters(document["counters"]), document["class_names"]
    except OSError as error:
        raise DataNotFound(f"cannot read {counts}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{counts} is not what `nonesuch order --acceptance` writes ({error})") from error
    save_acceptance(out, tally, class_names)
    typer.echo(f"{100 * tally.acceptance():.1f} % of {tally.tried.total():,} images were kept; {out} shows which")
