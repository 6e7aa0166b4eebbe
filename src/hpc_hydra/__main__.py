"""The command `hpc`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ._records import newest_sweep, states
from ._table import print_table


def main() -> None:
    """Entry point of ``hpc`` and of ``python -m hpc_hydra``."""
    parser = argparse.ArgumentParser(prog="hpc", description="Look at sweeps, from their records.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="the table of a sweep")
    status.add_argument(
        "directory", nargs="?", type=Path, help="of a sweep or a run; default: your newest sweep"
    )
    status.add_argument(
        "--rows", type=int, default=100, help="at most; of more runs, completed ones are left out"
    )
    arguments = parser.parse_args()
    directory = arguments.directory or newest_sweep()
    if directory is None:
        sys.exit("No sweep is known here: name its directory.")
    if not states(directory):
        sys.exit(f"no runs in {directory}")
    print_table(directory, arguments.rows)


if __name__ == "__main__":
    main()
