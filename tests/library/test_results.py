"""The table of one or several sweeps, and what a notebook gets of them."""

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_hydra import load, log_metrics
from hpc_hydra._advice import advice
from hpc_hydra._results import (
    Table,
    last_and_best,
    mean_and_spread,
    parameters_of,
    runs_of,
    table_of,
    value_of,
)

from . import hpc_command
from .sweeps import made
from .using import ONE_PROCESS, App

GRID = [f"+setup=hpc_batch epochs=3 lr={lr} seed={seed}" for lr in (0.1, 0.01) for seed in (1, 2)]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    results = [0.9, 0.94, 0.8, ValueError("diverged")]
    return table_of(runs_of(made(tmp_path / "sweep", GRID, results)))


def column(table: Table, name: str) -> list[Any]:
    return [row.get(name) for row in table.rows]


def test_what_varies_is_a_column_and_what_does_not_is_told_once(table: Table) -> None:
    assert table.columns == ["run", "lr", "seed", "state", "result", "duration_s", "restarts"]
    assert table.constant == {"epochs": 3}
    assert column(table, "lr") == [0.1, 0.1, 0.01, 0.01]
    assert column(table, "result") == [0.9, 0.94, 0.8, None]
    assert column(table, "duration_s") == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1_000", -1000), ("1e-3", 0.001), (".5", 0.5), ("1.", 1.0), ("-inf", -math.inf),
        ("true", True), ("False", False), ("null", None), ("'1'", "1"), ('"it\'s"', "it's"),
        ("[1,2]", "[1,2]"), ("${oc.env:X}", "${oc.env:X}"), ("adam", "adam"), ("", ""), ("1.2.3", "1.2.3"),
        (r"s3\://a\ b", "s3://a b"), (r"C:\data", r"C:\data"), (r"[a\:b]", r"[a\:b]"),
        ("1_0.5", 10.5), ("infinity", "infinity"), ("007", "007"), ("-01.5", "-01.5"), ("-0", 0),
    ],
)  # fmt: skip
def test_values_are_what_hydra_takes_them_for(text: str, value: Any) -> None:
    found = value_of(text)
    assert (found, type(found)) == (value, type(value))


def test_overrides_that_are_more_than_a_name_and_a_value() -> None:
    overrides = ["+setup=a", "hydra.x=1", "+data@in=b", "++x=c=d", "~model.dropout", "lr=1"]
    assert parameters_of(overrides) == {"data@in": "b", "x": "c=d", "~model.dropout": True, "lr": 1}


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("lr>0.01", [0, 1]), ("lr = 0.01", [2, 3]), ("result >= 0.9", [0, 1]), ("seed!=1", [1, 3]),
        ("state=FAILED", [3]), ("result<1e9", [0, 1, 2]), ("seed=true", []), ("seed=1.0", [0, 2]),
        ("duration>11", [2, 3]),
    ],
)  # fmt: skip
def test_rows_are_chosen(condition: str, runs: list[int], table: Table) -> None:
    """A run without a result is below none."""
    assert column(table.where(condition), "run") == runs


def test_rows_without_a_number_are_chosen(tmp_path: Path) -> None:
    """Those of runs that diverged, as they are shown."""
    table = table_of(runs_of(made(tmp_path / "sweep", ["lr=nan", "lr=1"], [math.nan, 0.5])))
    for condition, runs in (("result=nan", [0]), ("result!=nan", [1]), ("lr=nan", [0])):
        assert column(table.where(condition), "run") == runs


def test_rows_are_sorted_and_what_has_no_value_comes_last(table: Table) -> None:
    assert column(table.sorted("result"), "run") == [2, 0, 1, 3]
    assert column(table.sorted("result", descending=True), "run") == [1, 0, 2, 3]


def test_unknown_columns_and_conditions_are_answered_with_what_there_is(table: Table) -> None:
    with pytest.raises(ValueError, match="no column lrr, but run, lr, seed, state, result"):
        table.sorted("lrr")
    with pytest.raises(ValueError, match="epochs is the same in all runs: 3"):
        table.where("epochs=3")
    with pytest.raises(
        ValueError, match=r"lr: a condition is a column, one of == = .*, and a value, in quotes"
    ):
        table.where("lr")
    said = "lr is never a text like '0.01 and seed=1'; each condition has its own --where"
    with pytest.raises(ValueError, match=said):
        table.where("lr > 0.01 and seed=1")
    with pytest.raises(ValueError, match="result: a mean is taken over what varies: lr, seed"):
        table.over(["result"])


def test_mean_and_spread_over_seeds(table: Table) -> None:
    """Of completed runs; one alone has no spread."""
    means = table.over(["seed"])
    assert means.columns[:4] == ["lr", "runs", "result", "result.std"]
    assert column(means, "runs") == [2, 1]
    assert column(means, "result") == [pytest.approx(0.92), 0.8]
    assert column(means, "result.std") == [pytest.approx(0.04 / math.sqrt(2)), None]


def test_a_mean_is_taken_of_runs_whose_parameter_is_nan(tmp_path: Path) -> None:
    overrides = [f"clip={clip} seed={seed}" for clip in ("nan", "1") for seed in (1, 2)]
    table = table_of(runs_of(made(tmp_path / "sweep", overrides, [1, 2, 3, 4])))
    assert column(table.over(["seed"]), "runs") == [2, 2]


@pytest.mark.parametrize("values", [[1e160, 3e160], [10**299, 3 * 10**299], [1e308] * 3])
def test_mean_and_spread_of_what_no_float_has_room_for_squared(values: list[float]) -> None:
    expected = (2 * values[0], 2**0.5 * values[0]) if len(values) == 2 else (math.inf, math.inf)
    assert mean_and_spread(values) == pytest.approx(expected)


def test_results_of_several_numbers_and_metrics_are_columns(tmp_path: Path) -> None:
    steps = [{"loss": 2.0, "acc": 0.5}, {"loss": math.nan}, {"loss": 3.0, "acc": 0.4}]
    results = [{"acc": 0.5, "size": {"mb": 3}}, {"acc": 0.6}]
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2"], results, {0: steps})
    first, second = table_of(runs_of(sweep), ["*"]).rows
    assert (first["result.acc"], first["result.size.mb"], second["result.acc"]) == (0.5, 3, 0.6)
    assert (first["loss.last"], first["loss.min"]) == (3.0, 2.0)
    assert (first["acc.last"], first["acc.max"]) == (0.4, 0.5)
    (only,) = table_of(runs_of(sweep), ["a*"]).where("mb=3").rows
    assert "loss.last" not in only and only["acc.max"] == 0.5
    assert table_of(runs_of(sweep), ["*"]).find("acc") == "result.acc"  # with metrics or without
    assert last_and_best({1: {"x": math.nan}}, ["x"], []).keys() == {"x.last", "x.max"}


def test_a_data_frame_of_two_sweeps(zen_app: App, tmp_path: Path) -> None:
    """As an app leaves them, of which one has another parameter."""
    command = ("+setup=local", ONE_PROCESS, "model=logistic", "lr=0.1,0.01", "seed=1,2", "steps=2")
    assert zen_app(*command).returncode == 0
    other = made(tmp_path / "other", ["model=logistic lr=1 steps=2 new=[1,2]"], [0.5])
    frame = load(zen_app.sweep, str(other))
    assert list(frame["lr"]) == [0.1, 0.1, 0.01, 0.01, 1]
    assert list(frame["sweep"]) == [str(zen_app.sweep)] * 4 + [str(other)]
    assert frame["new"].isna().sum() == 4
    assert frame.attrs["constant"] == {"model": "logistic", "steps": 2}
    assert frame["total.last"][:4].equals(frame["result"][:4])
    assert frame["used_memory_mib"][:3].min() > 1

    by_step = load(zen_app.sweep, metrics=True)
    assert list(by_step.columns) == ["sweep", "run", "lr", "seed", "step", "total"]
    assert list(by_step["step"]) == [1, 2] * 4
    assert by_step.groupby(["lr", "seed"])["total"].last().loc[(0.1, 1)] == frame["result"][0]


def test_a_metric_that_is_called_like_another_column(tmp_path: Path) -> None:
    """And a parameter that is."""
    steps = {run: [{"lr": 0.5, "run": 7, "loss": 1.0}] for run in range(2)}
    sweep = made(tmp_path / "sweep", ["lr=1 step=8", "lr=2 step=9"], [0.5, 0.6], steps)
    frame = load(sweep, sweep, metrics=True)
    assert list(frame.columns) == [
        "sweep", "run", "lr", "parameter.step", "step", "metric.lr", "metric.run", "loss"
    ]  # fmt: skip
    assert frame.iloc[:, 1:].to_numpy().tolist() == [
        [0, 1, 8, 1, 0.5, 7, 1], [1, 2, 9, 1, 0.5, 7, 1]
    ]  # fmt: skip
    overrides = ["lr.max=1 result.x=3", "lr.max=2 result.x=4"]
    (row, _) = load(made(tmp_path / "other", overrides, [{"x": 8}, {"x": 9}], steps)).to_dict(
        "records"
    )
    assert (row["lr.max"], row["metric.lr.max"], row["lr.last"]) == (1, 0.5, 0.5)
    assert (row["parameter.result.x"], row["result.x"]) == (3, 8)


def test_a_single_run_and_none(tmp_path: Path) -> None:
    sweep = made(tmp_path / "sweep", ["lr=1"], [0.5])
    log_metrics({"acc": 1}, 1, sweep / "0")
    (row,) = table_of(runs_of(sweep / "0"), ["acc"]).rows
    assert (row["result"], row["acc.last"]) == (0.5, 1)
    with pytest.raises(FileNotFoundError, match=f"no runs in {tmp_path}/nothing"):
        load(tmp_path / "nothing")


def record(peak_mib: int, cpu_s: float, **asked: int) -> dict[str, Any]:
    used = {"max_rss_mib": peak_mib, "cpu_s": cpu_s, "wall_s": 100.0}
    return {"state": "COMPLETED", "asked": asked, "attempts": [used]}


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            [record(3174, 120, mem_mib=40960, cpus=8), record(1000, 50, mem_mib=40960, cpus=8)],
            ["asked 40 GB and 8 CPUs, used at most 3.1 GB and 1.2: mem=5G cpus-per-task=2 would do"],
        ),
        ([record(4000, 190, mem_mib=4096, cpus=2)], ["asked 4 GB and 2 CPUs, used at most 3.9 GB and 1.9: mem=6G would do"]),
        ([record(3000, 190, mem_mib=4096, cpus=2)], []),
        (
            [record(1000, 100, mem_mib=32768, cpus=8, tasks_per_node=4)],
            ["asked 32 GB and 2 CPUs per task, used at most 3.9 GB and 1: mem=6G cpus-per-task=1 would do"],
        ),
        ([{**record(1000, 100, mem_mib=32768, cpus=8), "state": "FAILED"}], []),
        ([record(1000, 100)], []),
    ],
)  # fmt: skip
def test_advice_about_what_to_ask_for(runs: list[dict[str, Any]], said: list[str]) -> None:
    """Of the run that used most, with some room; memory is that of a node, as in Slurm's option."""
    assert advice(runs) == said


def test_the_command_prints_the_best(hpc: Callable[..., str], tmp_path: Path) -> None:
    sweep = made(tmp_path / "sweep", GRID, [0.9, 0.94, 0.8, ValueError("diverged")])
    lines = hpc("results", sweep, "--best", "2", "--where", "lr>0.01").splitlines()
    assert lines[0] == "epochs=3"
    assert lines[2].split() == ["run", "lr", "seed", "state", "result", "duration", "restarts"]
    assert [line.split()[:5] for line in lines[4:6]] == [
        ["1", "0.1", "2", "COMPLETED", "0.94"], ["0", "0.1", "1", "COMPLETED", "0.9"]
    ]  # fmt: skip
    assert lines[-1] == "4 runs: 3 completed, 1 failed; 2 of them chosen; highest result first"
    lowest = hpc("results", sweep, sweep, "--best", "1", "--minimize", "--csv")
    assert lowest.splitlines()[1].startswith("2,0.01,1,COMPLETED,0.8,")
    odd = made(tmp_path / "odd", GRID, [0.9, "diverged", math.nan, ValueError("diverged")])
    lines = hpc("results", odd, "--best", "3").splitlines()
    assert [line.split()[0] for line in lines[4:-2]] == ["0"]
    assert lines[-1].endswith("; highest result first, 3 without such a number left out")


def test_the_command_prints_means_over_seeds_of_two_sweeps(
    hpc: Callable[..., str], tmp_path: Path
) -> None:
    """The same command typed twice, with other seeds."""
    for place, name in enumerate(("first", "second")):
        seeds = [f"lr={lr} seed={2 * place + seed}" for lr in (1, 2) for seed in (1, 2)]
        steps = {run: [{"loss": 0.5, "acc": 0.5 + place / 10}] for run in range(4)}
        made(tmp_path / name, seeds, [1.0 + place, 2.0 + place, 3.0, 3.0], steps)
    out = hpc(
        "results", tmp_path / "first", tmp_path / "second", "--over", "seed", "--metric", "acc"
    )
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "lr runs result acc.last acc.max duration" in rows
    assert "1 4 2.00 ± 0.82 0.550 ± 0.058 0.550 ± 0.058 0:00:10" in rows[3]
    assert rows[4].startswith("2 4 3 ± 0 ")
    out = hpc("results", tmp_path / "first", tmp_path / "second", "--where", "seed=4")
    assert [line.split()[:2] for line in out.splitlines()[3:5]] == [
        ["second", "1"],
        ["second", "3"],
    ]


def test_csv_and_json_can_be_read_back(hpc: Callable[..., str], tmp_path: Path) -> None:
    """With what a text may have in it, and numbers that JSON does not know."""
    strange = 'a,"b"\n<i>'
    sweep = made(
        tmp_path / "sweep",
        ["name='[1,2]' lr=1e-05", "name=x lr=.1"],
        [math.nan, {"acc": 1 / 3, "note": strange}],
        {1: [{"loss": math.inf}, {"loss": 0.25}]},
    )
    printed = hpc("results", sweep, "--csv")
    first, second = csv.DictReader(io.StringIO(printed))
    assert (first["name"], float(first["lr"]), first["loss.min"]) == ("[1,2]", 1e-05, "")
    assert (float(second["result.acc"]), second["result.note"]) == (1 / 3, strange)
    import pandas

    assert len(pandas.read_csv(io.StringIO(printed))) == 2

    def refuse(name: str) -> None:
        raise ValueError(name)

    first, second = json.loads(hpc("results", sweep, "--json"), parse_constant=refuse)
    assert (first["result"], first["loss.min"], second["result"]) == ("NaN", None, None)
    assert (second["loss.last"], second["loss.min"]) == (0.25, 0.25)
    assert "--csv or --json" in hpc("results", sweep, "--csv", "--json", code=2)


def test_metrics_are_read_where_one_is_named(hpc: Callable[..., str], tmp_path: Path) -> None:
    steps = {0: [{"loss": 0.5}], 1: [{"loss": 0.1, "[red]z": 1}, {"loss": 0.2}]}
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2"], [1, 2], steps)
    assert "loss" not in hpc("results", sweep)
    lines = hpc("results", sweep, "--sort", "loss").splitlines()
    assert [line.split()[0] for line in lines[3:5]] == ["1", "0"]
    assert "loss.min" in lines[1] and "loss.last" not in lines[1]
    assert "1 of them chosen" in hpc("results", sweep, "--where", "loss.last<0.3")
    assert "no column los, but run, lr" in hpc("results", sweep, "--sort", "los", code=2)
    assert hpc("results", sweep, "--metric", "los", code=2) == "no metric los, but loss, [red]z\n"
    assert "[red]z.last" in hpc("results", sweep, "--metric", "[red]z")
    both = ("results", sweep, "--metric", "loss", "--sort", "[red]z", "--where", "[red]z.last=1")
    columns = "run,lr,state,result,loss.last,loss.min,[red]z.max,duration_s,restarts"
    assert hpc(*both, "--csv").splitlines()[0] == columns
    assert "loss.min   [red]z.max   duration" in hpc(*both)
    assert "rows" in hpc("results", sweep, "--rows", "-1", code=2)
    made(tmp_path / "none", ["lr=1"], [None], steps)
    assert "loss.min" in hpc("results", tmp_path / "none")


def test_resources_and_advice(hpc: Callable[..., str], tmp_path: Path) -> None:
    known = record(3174, 120, mem_mib=40960, cpus=8)
    sweep = made(tmp_path / "sweep", ["lr=1"], [1], **known)
    out = hpc("results", sweep, "--resources")
    assert "used_memory_mib" in out and " 3174 " in out
    assert "asked 40 GB and 8 CPUs" in out
    other = made(tmp_path / "other", ["lr=1"], [1])
    assert "was not recorded" in hpc("results", other, "--resources")


def test_pandas_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs pandas: pip install 'hpc-hydra\[results\]'"):
        load(tmp_path)


def test_a_terminal_shows_what_it_has_room_for(
    hpc: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What varies and what was asked for first; the rest is named."""
    names = [f"metric_with_a_long_name_{number}" for number in range(4)]
    steps = {run: [{name: 0.5 for name in names}] for run in range(2)}
    sweep = made(tmp_path / "sweep", ["lr=1", "lr=2"], [1, 2], steps)
    monkeypatch.setattr(
        hpc_command, "Output", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})
    )
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    lines = hpc("results", sweep, "--metric", "*", "--sort", names[3]).splitlines()
    assert lines[1].split() == ["run", "lr", "state", "result", f"{names[3]}.max", "duration"]
    (left_out,) = [line for line in lines if line.startswith("no room for ")]
    assert f"{names[0]}.last" in left_out and f"{names[3]}.max" not in left_out


def test_a_value_that_one_sweep_leaves_at_its_default_is_that_of_another(tmp_path: Path) -> None:
    """Else a mean has two rows for the same thing, and a picture a model that is called none."""
    first = made(tmp_path / "first", ["lr=0.1"], [0.5])
    (first / "0" / ".hydra").mkdir()
    (first / "0" / ".hydra" / "config.yaml").write_text(
        "lr: 0.1\nseed: 0\nmodel:\n  size: 3\nlayers:\n- 1\n- true\n- a\n"
    )
    choices = "hydra:\n  runtime:\n    choices:\n      model: mlp\n"
    (first / "0" / ".hydra" / "hydra.yaml").write_text(choices)
    second = made(tmp_path / "second", ["lr=0.1 model=mlp seed=0 layers=[1,true,a]", "lr=0.1 model=net seed=1 layers=[1,true,a]"], [1.0, 2.0])  # fmt: skip
    table = table_of(runs_of(first, second))
    assert [(row["model"], row["seed"]) for row in table.rows] == [("mlp", 0), ("mlp", 0), ("net", 1)]  # fmt: skip
    assert table.constant == {"lr": 0.1, "layers": "[1,true,a]"}
    # Which may be another one in each run, by what was chosen.
    third = made(tmp_path / "third", ["experiment=a", "experiment=b"], [1.0, 2.0])
    for number, model in enumerate(("mlp", "net")):
        shutil.copytree(first / "0" / ".hydra", own := third / str(number) / ".hydra")
        (own / "hydra.yaml").write_text(choices.replace("mlp", model))
    assert column(table_of(runs_of(third, second)), "model") == ["mlp", "net"] * 2


def test_a_parameter_that_is_called_like_a_spread_is_shown(
    tmp_path: Path, hpc: Callable[..., str]
) -> None:
    """Or like our word for seconds."""
    runs = ["noise.std=0.5 duration=7", "noise.std=1 duration=8"]
    headings = hpc("results", made(tmp_path / "sweep", runs, [1, 2])).splitlines()[1].split()
    assert "noise.std" in headings and headings.count("duration") == 2
