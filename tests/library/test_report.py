"""The report, as a browser shows it."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from .sweeps import made

KEY = "<b>key</b>"
EVIL = '<img/src="http://example.com/x"/onerror="window.hacked=1">'
CLOSING = "</script></style></pre><script>window.hacked=2</script>[[plotly]]"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of which all texts are full of HTML."""
    overrides = [
        f"lr={lr} {KEY}={name} seed={seed}"
        for lr in (0.001, 0.1) for name in (EVIL, CLOSING) for seed in (1, 2)
    ]  # fmt: skip
    steps = {
        run: [{"loss": 1.0 + run, CLOSING: 0.5}, {"loss": 0.5 + run, CLOSING: 0.7}]
        for run in range(8)
    }
    results = [0.5, 0.75, 10, 9, 0.25, 0.125, 2, ValueError(EVIL + CLOSING)]
    asked = {"mem_mib": 40960, "cpus": 8}
    used = {"max_rss_mib": 3174, "cpu_s": 120.0, "wall_s": 100.0}
    folder = tmp_path_factory.mktemp("reports") / "<b>bold<b>"
    directory = made(folder, overrides, results, steps, asked=asked, attempts=[used])
    record = directory / "sweep.json"
    (directory / "jobs" / "submission_0.diff").write_text(f"+{CLOSING}")
    text = record.read_text().replace('"git_diff": null', '"git_diff": "jobs/submission_0.diff"')
    record.write_text(text)
    return directory


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Of a headless Chromium, with what it complains of and asks for in ``page.heard``."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not browser:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield chromium.new_page()
        chromium.close()


def test_a_browser_shows_the_report(
    page: Page, sweep: Path, hpc: Callable[..., str], tmp_path: Path
) -> None:
    """It draws, sorts and filters, asks nothing of a network, and executes nothing of what users wrote."""
    heard: list[str] = []
    page.on(
        "console", lambda message: heard.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url))
    output = tmp_path / "report.html"
    assert hpc("report", sweep, "-o", output) == f"{output}\n"
    page.goto(output.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)

    def column(name: str) -> list[str]:
        place = headings.index(name) + 1
        return page.locator(f"#runs tbody tr:visible td:nth-child({place})").all_inner_texts()

    headings = [each.strip() for each in page.locator("#runs th").all_inner_texts()]
    assert headings[:6] == ["run", "lr", KEY, "seed", "state", "result"]
    assert set(column(KEY)) == {EVIL, CLOSING} and set(column("used_memory_mib")) == {"3174"}
    assert column("run") == [str(number) for number in range(8)]

    by_result = page.locator("th[data-name=result] button")
    by_result.click()
    assert column("result") == ["0.125", "0.25", "0.5", "0.75", "2", "9", "10", ""]
    by_result.click()
    assert column("run") == ["2", "3", "6", "1", "0", "4", "5", "7"]  # without one last again

    assert points(page) == 16
    page.fill("#filter", "lr>0.01 completed")
    page.wait_for_function("document.querySelector('#count').textContent == '3 of 8 runs'")
    assert column("run") == ["6", "4", "5"]
    assert points(page) == 6

    page.select_option("#metric", label=CLOSING)
    page.select_option("#by", label=KEY)
    page.evaluate("Plotly.Fx.hover('curves', [{curveNumber: 0, pointNumber: 1}])")
    hover = page.locator("#curves .hoverlayer").text_content() or ""
    for part in ("run 6", "lr=0.1", f"{KEY}={CLOSING}", "seed=1", "step 2: 0.7"):
        assert part in hover
    assert page.locator("#parallel .axis-title").all_text_contents()[:2] == ["lr", KEY]
    assert f"…{CLOSING[-23:]}" in page.locator("#parallel .tick").all_text_contents()

    text = page.inner_text("body")
    assert "window.hacked=2</script>[[plotly]]" in text
    assert "asked 40 GB and 8 CPUs, used at most 3.1 GB and 1.2" in text
    assert "c0ffee" in text and "python -m app lr=0.1,0.01" in text
    page.locator("details").first.click()
    assert f"ValueError('{EVIL}" in page.locator("details pre").first.inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, b, textarea").count() == 0
    assert heard == [output.as_uri()]


def test_sweeps_of_different_results_are_drawn(
    page: Page, hpc: Callable[..., str], tmp_path: Path
) -> None:
    """By what they have in common; texts that begin alike are told apart. A text is no highest result."""
    overrides = [f"data={'x' * 40}{name}" for name in ("one", "two")]
    sweeps = [
        made(tmp_path / name, overrides, [{name: 0.25}, {name: "diverged"}])
        for name in ("acc", "f1")
    ]
    output = tmp_path / "report.html"
    hpc("report", *sweeps, "-o", output)
    page.goto(output.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    (dimension,) = page.evaluate("document.querySelector('#parallel').data[0].dimensions")
    assert dimension["values"] == [0, 1, 0, 1]
    assert [text[-5:] for text in dimension["ticktext"]] == ["xxone", "xxtwo"]
    assert page.locator("dt:has-text('highest result.acc') + dd").inner_text().startswith("0.25: ")


def test_what_is_logged_at_some_steps_only_is_drawn(
    page: Page, hpc: Callable[..., str], tmp_path: Path
) -> None:
    """Though of a long curve only some points are. A parameter that is infinite has a place beside numbers."""
    steps = [{"loss": 1.0, **({"valid": 0.5} if step % 100 == 0 else {})} for step in range(5000)]
    sweep = made(tmp_path / "sweep", ["clip=inf", "clip=1"], [0.5, 500], {0: steps})
    output = tmp_path / "report.html"
    hpc("report", sweep, "-o", output)
    page.goto(output.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    page.select_option("#metric", label="valid")
    assert points(page) == 50
    dimension = page.evaluate("document.querySelector('#parallel').data[0].dimensions[0]")
    assert dimension["ticktext"] == ["1", "inf"] and dimension["values"] == [1, 0]
    # The result is told by color, and its axis is logarithmic.
    assert page.locator("#parallel .cbaxis text").all_text_contents() == ["0.5", "500"]


def test_many_values_are_told_apart_by_the_colors_that_there_are(
    page: Page, hpc: Callable[..., str], tmp_path: Path
) -> None:
    """A curve of its own for each of thousands would take a browser minutes."""
    steps = {run: [{"loss": 1.0}, {"loss": 0.5}] for run in range(40)}
    sweep = made(tmp_path / "sweep", [f"seed={run}" for run in range(40)], [0.5] * 40, steps)
    output = tmp_path / "report.html"
    hpc("report", sweep, "-o", output)
    page.goto(output.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    assert points(page) == 80
    names = page.evaluate("document.querySelector('#curves').data.map(each => each.name)")
    assert len(names) == 10 and names[0].startswith("0 to ") and names[9].endswith(" to 39")


def test_it_sorts_and_filters_like_the_command(
    page: Page, hpc: Callable[..., str], tmp_path: Path
) -> None:
    """NaN is last in either order, and == is =."""
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2", "lr=3"], [0.5, math.nan, 0.25])
    output = tmp_path / "report.html"
    hpc("report", sweep, "-o", output)
    page.goto(output.as_uri())
    page.wait_for_selector("html[data-drawn]", timeout=120_000)
    by_result, first = page.locator("th[data-name=result] button"), "#runs tbody td:first-child"
    for expected in (["2", "0", "1"], ["0", "2", "1"]):
        by_result.click()
        assert page.locator(first).all_inner_texts() == expected
    page.fill("#filter", "lr==2")
    page.wait_for_function("document.querySelector('#count').textContent == '1 of 3 runs'")


def points(page: Page) -> Any:
    """How many the learning curves show."""
    page.wait_for_function("document.querySelector('#curves').data !== undefined")
    return page.evaluate(
        "document.querySelector('#curves').data.flatMap(each => each.y).filter(y => y !== null).length"
    )


def test_a_report_on_several_sweeps_without_metrics(
    hpc: Callable[..., str], tmp_path: Path
) -> None:
    """And without what was not committed."""
    sweeps = [made(tmp_path / name, ["lr=1"], [1]) for name in ("first", "second")]
    (tmp_path / "first" / "x.diff").write_text("+secret")
    text = (
        (sweeps[0] / "sweep.json").read_text().replace('"git_diff": null', '"git_diff": "x.diff"')
    )
    (sweeps[0] / "sweep.json").write_text(text)
    output = tmp_path / "report.html"
    hpc("report", *sweeps, "-o", output)
    page = output.read_text()
    assert "<h1>first, second</h1>" in page and "+secret" in page
    hpc("report", *sweeps, "-o", output, "--no-diff")
    assert "+secret" not in output.read_text()
    assert "Is a directory" in hpc("report", *sweeps, "-o", ".", code=2)
    assert "No such file" in hpc("report", *sweeps, "-o", tmp_path / "none" / "x.html", code=2)


def test_runs_that_failed_alike_are_told_once(hpc: Callable[..., str], tmp_path: Path) -> None:
    results = [ValueError("bad"), ValueError("worse"), ValueError("bad")]
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2", "lr=3"], results)
    hpc("report", sweep, "-o", tmp_path / "report.html")
    found = re.findall("<summary>(run .*?)<br>", (tmp_path / "report.html").read_text())
    assert [unescape(each) for each in found] == [
        "run 0 and 1 more failed: ValueError('bad')", "run 1 failed: ValueError('worse')"
    ]  # fmt: skip
    (sweep / "jobs" / "7_0.out").unlink()
    hpc("report", sweep, "-o", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<p>Without a log</p>") == page.count("<p>The end of ") == 1


def test_plotly_is_asked_for_where_it_is_missing(
    hpc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    sweep = made(tmp_path / "sweep", ["lr=1"], [1])
    assert "pip install 'hpc-hydra[results]'" in hpc("report", sweep, code=1)
