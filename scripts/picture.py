"""Draw the README's pictures from the newest sweep of the demo, with the demo's own Python.

make demo
make pictures
"""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    """Write docs/table.svg and docs/sweep.png."""
    project = Path(sys.argv[1])
    sweeps = project.glob("outputs/*/*/sweep.json")
    sweep = max(sweeps, key=os.path.getmtime)
    record = json.loads(sweep.read_text())

    table = subprocess.run(
        [sys.executable, "-m", "hpc_experiment.hpc.runs", sweep.parent],
        env={**os.environ, "FORCE_COLOR": "1"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(f"$ {record['command']}", style="bold", highlight=False)
    shown = table.replace(str(project.parent), "~")
    console.print(Text.from_ansi(shown), soft_wrap=True)
    console.save_svg(str(DOCS / "table.svg"), title="hpc-experiment")

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="validation accuracy", ylim=(0.7, 1))
    for run in record["runs"]:
        values = dict(override.split("=") for override in run["overrides"][1:])
        with (sweep.parent / str(run["number"]) / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        axes.plot(
            [int(row["epoch"]) for row in rows],
            [float(row["valid_accuracy"]) for row in rows],
            color={"mlp": "C0", "logistic": "C1"}[values["model"]],
            linestyle={"0.1": "-", "0.01": "--"}[values["lr"]],
            label=f"{values['model']}, lr {values['lr']}" if values["seed"] == "1" else None,
        )
    axes.legend(loc="lower right")
    figure.savefig(DOCS / "sweep.png", dpi=150)


if __name__ == "__main__":
    main()
