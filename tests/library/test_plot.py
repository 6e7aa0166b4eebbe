"""Pictures of sweeps."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from hpc_hydra._plot import against, learning_curves
from hpc_hydra._results import Run, runs_of

from .sweeps import made

OVERRIDES = [f"lr={lr} opt={opt} seed={seed}" for lr in (0.001, 0.1) for opt in ("$a$", "<b>") for seed in (1, 2)]  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Of which the last one failed."""
    steps = {run: [{"loss": 1.0 + run}, {"loss": 0.5 + run, "acc": 0.1}] for run in range(8)}
    results = [*range(7), ValueError("diverged")]
    return runs_of(made(tmp_path / "sweep", OVERRIDES, results, steps))


def test_learning_curves_are_means_of_what_did_not_fail(runs: list[Run]) -> None:
    figure = learning_curves(runs, "loss", ["lr"])
    low, high = figure.axes[0].lines
    assert numpy.array_equal(low.get_xydata(), [[1, 2.5], [2, 2.0]])
    assert numpy.array_equal(high.get_xydata(), [[1, 6.0], [2, 5.5]])  # of three
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.001", "0.1"]
    assert len(figure.axes[0].collections) == 2  # the spreads
    assert figure.axes[0].get_title("left").endswith("over opt, seed; 7 runs")
    assert len(learning_curves(runs, "loss").axes[0].lines) == 7
    with pytest.raises(ValueError, match="--metric is one of acc, loss"):
        learning_curves(runs)
    with pytest.raises(ValueError, match="momentum is none of what varies: lr, opt, seed"):
        learning_curves(runs, "loss", ["momentum"])
    with pytest.raises(
        ValueError, match="needs --against; 1 that ended before their time are left"
    ):
        learning_curves(runs[7:])


def test_the_result_against_a_number_and_a_text(runs: list[Run]) -> None:
    figure = against(runs, "lr", by=["opt"])
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.001", "0.1"]
    assert [list(bars.lines[0].get_ydata()) for bars in axes.containers] == [[0.5, 4.5], [2.5, 6]]  # type: ignore[attr-defined]
    assert axes.get_ylabel() == "result"
    assert against(runs, "opt", "loss").axes[0].get_ylabel() == "loss.min"


def test_the_command_writes_a_picture(
    runs: list[Run], hpc: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of values that matplotlib would take for formulas."""
    monkeypatch.chdir(tmp_path)
    curves = hpc("plot", runs[0].sweep, "--metric", "loss", "--by", "opt", "--by", "lr", "--log-y")
    assert curves == "loss.png\n"
    assert Path("loss.png").read_bytes().startswith(b"\x89PNG")
    hpc("plot", runs[0].sweep, "--against", "opt", "-o", "new.svg")
    assert "<svg" in Path("new.svg").read_text()
    other = made(tmp_path / "other", ["data/set=a", "data/set=b"], [1, 2])
    assert hpc("plot", other, "--against", "data/set") == "result_against_data_set.png\n"
    assert hpc("plot", runs[0].sweep, "--against", "lr", "-o", "new") == "new.png\n"
    assert "is a directory" in hpc("plot", runs[0].sweep, "--against", "lr", "-o", ".", code=2)
    message = hpc("plot", runs[0].sweep, "--against", "lr", "-o", "x.doc", code=2)
    assert "Format 'doc' is not supported" in message


def test_values_without_a_place_among_numbers_stand_beside_them(tmp_path: Path) -> None:
    for number, swept in enumerate(("null", "inf", "nan")):
        sweep = made(tmp_path / swept, [f"clip={swept}", "clip=1", "clip=2"], [0.1, 0.2, 0.3])
        figure = against(runs_of(sweep), "clip")
        names = sorted(tick.get_text() for tick in figure.axes[0].get_xticklabels())
        assert names == ["1", "2", ("none", "inf", "nan")[number]]
        figure.draw_without_rendering()


def test_what_varies_only_in_runs_that_failed_can_be_an_axis(tmp_path: Path) -> None:
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2"], [0.5, ValueError("bad")])
    assert len(against(runs_of(sweep), "lr").axes[0].containers) == 1


def test_the_runs_that_are_seen_are_counted(tmp_path: Path) -> None:
    steps = {run: [{"loss": 1.0}] for run in range(2)}
    runs = runs_of(made(tmp_path / "sweep", ["lr=1", "lr=2", "lr=3"], [0.5, None, None], steps))
    figures = learning_curves(runs, "loss"), against(runs, "lr")
    assert [figure.axes[0].get_title("left") for figure in figures] == ["2 runs", "1 runs"]


def test_a_curve_is_drawn_by_the_value_that_a_run_has_by_default(tmp_path: Path) -> None:
    """As the table has it."""
    steps = [{"loss": 1.0}]
    first = made(tmp_path / "first", ["seed=1"], [0.5], {0: steps})
    (first / "0" / ".hydra").mkdir()
    (first / "0" / ".hydra" / "config.yaml").write_text("lr: 0.1\nseed: 1\n")
    second = made(
        tmp_path / "second", ["lr=0.1 seed=2", "lr=0.2 seed=2"], [1, 2], {0: steps, 1: steps}
    )
    (legend,) = learning_curves(runs_of(first, second), "loss", ["lr"]).legends
    assert [text.get_text() for text in legend.get_texts()] == ["0.1", "0.2"]


def test_what_diverged_and_long_names_leave_room_for_the_rest(tmp_path: Path) -> None:
    overrides = [
        f"{'data.' * 20}set={'x' * 40}{data} seed={seed}" for data in range(40) for seed in (1, 2)
    ]
    steps = {run: [{"loss": 1.0}, {"loss": math.inf if run == 1 else 0.5}] for run in range(4)}
    sweep = made(tmp_path / "sweep", overrides[:4], [1, math.nan, 2, 3], steps)
    name = overrides[0].partition("=")[0]
    figure = learning_curves(runs_of(sweep), "loss", [name])
    assert [numpy.size(line.get_xdata()) for line in figure.axes[0].lines] == [1, 2]
    (legend,) = figure.legends
    texts = [legend.get_title(), *legend.get_texts()]
    assert max(len(text.get_text()) for text in texts) == 30
    assert legend.get_texts()[1].get_text().endswith("x1")
    assert "\n" in learning_curves(runs_of(sweep), "loss").legends[0].get_title().get_text()
    means = against(runs_of(sweep), name).axes[0].containers[0].lines[0]  # type: ignore[attr-defined]
    assert list(means.get_xdata()) == [1]
    many = made(tmp_path / "many", overrides, [1] * len(overrides))
    ticks = against(runs_of(many), name).axes[0].get_xticklabels()
    assert len(ticks) == 20 and {len(tick.get_text()) for tick in ticks} == {20}
    assert {tick.get_rotation() for tick in ticks} == {90}


def test_many_runs_are_a_line_each(tmp_path: Path) -> None:
    """As one collection, which is quick to draw; a run with one step is a point, and one that diverged is none."""
    steps = {run: 3 * [{"loss": 1.0 + run}] for run in range(11)}
    overrides = [f"lr={run}" for run in range(13)]
    steps |= {11: [{"loss": -1.0}], 12: 3 * [{"loss": math.nan}]}
    sweep = made(tmp_path / "sweep", overrides, [0.0] * 13, steps)
    figure = learning_curves(runs_of(sweep), "loss")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [len(lines.get_paths()) for lines in axes.collections] == [12]
    assert numpy.array_equal(axes.lines[0].get_xydata(), [[1, -1]])
    low, high = axes.get_ylim()
    assert low < -1 and high > 11
