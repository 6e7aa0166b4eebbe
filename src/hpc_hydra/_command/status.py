"""`hpc status`."""

from __future__ import annotations

from typing import Annotated

import typer

from .sweeps import SWEEP, named


def status(
    sweep: Annotated[str | None, SWEEP] = None,
    rows: Annotated[
        int, typer.Option(help="At most; of more runs, completed ones are left out.")
    ] = 100,
) -> None:
    """The runs of a sweep."""
    from .._table import print_table

    print_table(named(sweep), rows)
