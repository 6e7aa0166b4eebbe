"""The table of a sweep, as the command prints it at its end and `hpc status` at any time."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path

from ._records import newest_sweep, shown, states

COLORS = {
    "CANCELLED": "yellow", "COMPLETED": "green", "FAILED": "red", "LOST": "red", "OUT_OF_MEMORY": "red",
    "RUNNING": "cyan", "STOPPED": "yellow", "TIMEOUT": "red",
}  # fmt: skip
ENDED_EARLY = ("CANCELLED", "FAILED", "LOST", "OUT_OF_MEMORY", "STOPPED", "TIMEOUT")


def print_table(directory: Path, rows: int = 100) -> None:
    """Print the runs of the sweep in ``directory``, and the logs of those that failed.

    Of more than ``rows`` runs, completed ones are left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runs = states(directory)
    listed = runs if len(runs) <= rows else [run for run in runs if run["state"] != "COMPLETED"]
    columns = ("run", "job", "overrides", "state", "restarts", "result")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for run in listed[:rows]:
        result = run.get("result")
        if isinstance(result, float):
            result = f"{result:.4g}"
        table.add_row(
            str(run["number"]),
            run.get("job_id") or "",
            Text(shown(run.get("overrides", []))),
            Text(run["state"], style=COLORS.get(run["state"], "")),
            str(run.get("restarts", "")),
            Text("" if result is None else str(result)),
        )
    if listed:
        console = Console() if sys.stdout.isatty() else Console(width=160)
        console.print(table)
    ended_early = [run for run in runs if run["state"] in ENDED_EARLY]
    for run in ended_early[:rows]:
        last_line = (run.get("error") or "").strip().rpartition("\n")[2]
        log_file = directory / (run.get("log") or str(run["number"]))
        log_text = f"log: {log_file}" if log_file.exists() else "no log"
        print(f"run {run['number']} {run['state'].lower()}: {last_line}")
        print(f"    {shown(run.get('overrides', []))}, {log_text}")
    if len(listed) > rows:
        print(f"and {len(listed) - rows} more; all of them: --rows={len(runs)}")
    counts = Counter(run["state"].lower() for run in runs)
    print(f"{len(runs)} runs:", ", ".join(f"{counts[state]} {state}" for state in counts))
    print(f"outputs: {directory}")
    if sys.stdout.isatty() and any(run["state"] == "COMPLETED" for run in runs):
        name = "" if directory == newest_sweep() else f" {shlex.quote(str(directory))}"
        print(f"next: hpc results{name} --best 10\n      hpc report{name}")
