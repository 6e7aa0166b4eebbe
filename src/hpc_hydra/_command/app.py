"""The commands of `hpc`, each in a file of its own.

They start without Hydra, rich and pandas; what needs one of these imports it when it is called.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from .._records import DamagedRecord, library_version
from .cancel import cancel
from .clean import clean
from .doctor import doctor
from .logs import logs
from .ls import ls
from .plot import plot
from .report import report
from .rerun import rerun
from .results import results
from .retry import retry
from .show import show
from .status import status
from .sync import sync

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find, watch, repeat and clean up sweeps, from their records.",
    epilog="A sweep is named by its directory, by a unique part of that, or by nothing: the newest.",
)


@app.callback()
def _no_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print it and exit.")] = False,
) -> None:
    if version:
        print(f"hpc-hydra {library_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        ls()


for command in (
    ls, status, logs, show, retry, cancel, rerun, sync, clean, doctor, results, plot, report,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Entry point of ``hpc`` and of ``python -m hpc_hydra``."""
    if sys.stdout is None:  # `hpc show 0 >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the locale lacks
    try:
        try:
            app(prog_name="hpc")
        finally:
            sys.stdout.flush()
    except DamagedRecord as error:
        sys.exit(str(error))
    except OSError as error:
        # As in `hpc show 0 | head -1`, or on a full disk: Python itself would complain as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(error, BrokenPipeError) else str(error))
