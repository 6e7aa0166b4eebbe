"""`hpc plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import completion
from .results import runs_named
from .sweeps import SWEEP, fail


def plot(
    sweeps: Annotated[list[str] | None, SWEEP] = None,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="What to show; with --against by default the result.", autocompletion=completion.metric)
    ] = "",
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAMETER", help="A colour for each of its values, of a second one a kind of line; mean and standard deviation over the rest.", autocompletion=completion.parameters),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="PARAMETER", help="The x axis, instead of steps.", autocompletion=completion.parameters)
    ] = None,
    log_y: Annotated[bool, typer.Option("--log-y", help="A logarithmic y axis.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="PNG, SVG or PDF, by its ending.  [default: a PNG, called as what it shows]"),
    ] = None,
) -> None:  # fmt: skip
    """A picture: learning curves, or the result against a parameter.

    \b
    hpc plot --metric valid_loss --by lr                  learning curves, a colour for each lr
    hpc plot --metric valid_loss --by model --by lr -o curves.svg
    hpc plot --against lr --by model                      the result against a parameter
    """
    runs = runs_named(sweeps)
    from .. import _plot

    try:
        if against:
            figure = _plot.against(runs, against, metric, by or [])
        else:
            figure = _plot.learning_curves(runs, metric, by or [])
        axes = figure.axes[0]
        if log_y:
            axes.set_yscale("log")
        name = axes.get_ylabel() + (f"_against_{against}" if against else "")
        output = output or Path(name.replace("/", "_") + ".png")
        if output.is_dir():
            fail(f"{output} is a directory: name a file.")
        output = output if output.suffix else Path(f"{output}.png")
        figure.savefig(output)
    except ImportError:
        fail("hpc plot needs matplotlib: pip install 'hpc-hydra[results]'", 1)
    except (OSError, ValueError) as error:
        fail(str(error))
    print(output)
