"""Draw the README's picture from the newest sweep of the demo, with the demo's own Python.

make demo
make picture
"""

import json
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from hpc_hydra import read_metrics

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "sweep.png"


def main() -> None:
    """Write docs/sweep.png: what the sweep printed, above its learning curves."""
    project = Path(sys.argv[1])
    sweep = max(project.glob("outputs/*/*/sweep.json"))
    record = json.loads(sweep.read_text())
    table = subprocess.run(
        [sys.executable, "-m", "hpc_hydra", "status", sweep.parent],
        capture_output=True, text=True, check=True,
    ).stdout.replace(str(project.parent), "~")  # fmt: skip

    figure = Figure(figsize=(8, 6.5), layout="constrained")
    terminal, axes = figure.subplots(2, height_ratios=(3, 4))
    text = f"$ {record['submissions'][0]['command']}\n{table}"
    style = {"family": "DejaVu Sans Mono", "fontsize": 9, "color": "white", "va": "top"}
    terminal.text(0.02, 0.96, text, **style, transform=terminal.transAxes)
    terminal.set(facecolor="#222222", xticks=[], yticks=[])
    axes.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0.7, 1))
    for run in record["runs"]:
        values = dict(override.split("=") for override in run["overrides"][1:])
        metrics = read_metrics(sweep.parent / str(run["number"]))
        axes.plot(
            list(metrics),
            [values["valid_accuracy"] for values in metrics.values()],
            color={"mlp": "C0", "logistic": "C1"}[values["model"]],
            linestyle={"0.1": "-", "0.01": "--"}[values["lr"]],
            label=f"{values['model']}, lr {values['lr']}" if values["seed"] == "1" else None,
        )
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
