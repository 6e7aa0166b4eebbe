"""Draw the README's pictures from the newest sweep of the demo: its results, a plot and the report.

make demo
make picture
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    """Write docs/results.png, docs/plot.png and docs/report.png."""
    project = Path(sys.argv[1])
    sweep = max(project.glob("outputs/*/*/sweep.json")).parent
    draw_terminal(
        [f"$ hpc results --over seed\n{hpc('results', sweep, '--over', 'seed')}",
         f"$ hpc results --best 3\n{hpc('results', sweep, '--best', '3')}"],
        DOCS / "results.png",
    )  # fmt: skip
    hpc(
        "plot",
        sweep,
        "--metric",
        "valid_accuracy",
        "--by",
        "model",
        "--by",
        "lr",
        "-o",
        DOCS / "plot.png",
    )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        hpc("report", sweep, "-o", page)
        photograph(page, DOCS / "report.png")


def hpc(*arguments: str | Path) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "hpc_hydra", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def draw_terminal(texts: list[str], path: Path) -> None:
    """As white text on black."""
    text = "\n\n".join(
        "\n".join(line.rstrip() for line in each.splitlines() if line.strip()) for each in texts
    )
    lines = text.splitlines()
    figure = Figure(
        figsize=(max(map(len, lines)) * 0.075 + 0.3, len(lines) * 0.152 + 0.3), facecolor="#222222"
    )
    style = {"family": "DejaVu Sans Mono", "fontsize": 9, "color": "white", "va": "top"}
    figure.text(0.15 / figure.get_figwidth(), 1 - 0.12 / figure.get_figheight(), text, **style)
    figure.savefig(path, dpi=120)


def photograph(page: Path, path: Path) -> None:
    """In a headless Chromium."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1200, "height": 1690})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-drawn]", timeout=120_000)
        tab.select_option("#by", label="model")
        tab.wait_for_selector("#parallel .axis-title")
        tab.screenshot(path=path)
        chromium.close()


if __name__ == "__main__":
    main()
