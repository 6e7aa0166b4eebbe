"""`hpc report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .results import runs_named
from .sweeps import SWEEP, fail


def report(
    sweeps: Annotated[list[str] | None, SWEEP] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE")] = Path("report.html"),
    diff: Annotated[
        bool, typer.Option("--diff/--no-diff", help="Show what was not committed.")
    ] = True,
) -> None:
    """One HTML file about sweeps.

    Runs, curves, failures, resources. It opens anywhere, without a network.

    \b
    hpc report                          the newest sweep, in report.html
    hpc report fig1 fig2 -o both.html
    """
    runs = runs_named(sweeps)
    from .._files import write_atomically
    from .._report import report as page

    try:
        write_atomically(output.absolute(), page(runs, diff).encode(errors="backslashreplace"))
    except ImportError:
        fail("hpc report needs plotly: pip install 'hpc-hydra[results]'", 1)
    except OSError as error:
        fail(str(error))
    print(output)
