"""`hpc results`."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from .. import _records as records
from .. import _results as results_
from .._advice import advice, used
from .._results import Row, Table, shown
from . import completion
from .sweeps import SWEEP, all_named, fail
from .sweeps import as_json as in_json

WIDEST = 40  # of a column in the table


def results(
    sweeps: Annotated[list[str] | None, SWEEP] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Only rows with lr>0.01, model=mlp, and the like. Several: all must hold."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="By this column; a metric's name means its best value.")
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort the highest first.")] = False,
    best: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The N best by the result, or by what --sort names: the highest number, but of a loss or an error the lowest."),
    ] = None,
    minimize: Annotated[bool, typer.Option("--minimize", help="The lowest is the best.")] = False,
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAMETER", help="Mean and standard deviation over it, of completed runs.", autocompletion=completion.parameters),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Last and best of these metrics; 'valid_*' and '*' are possible. The default for --csv, --json, and runs without a result: all.", autocompletion=completion.metric),
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=0, help="At most so many in the table.")] = 100,
    resources: Annotated[
        bool, typer.Option("--resources", help="What runs used and asked for, and advice.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all digits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a list of rows.")] = False,
) -> None:  # fmt: skip
    """One table of the runs of one or several sweeps.

    What varies, and what came of it.

    \b
    hpc results                                    the newest sweep
    hpc results --best 5 --where 'lr>0.01'
    hpc results fig1 fig2 --over seed              two sweeps, mean and spread over seeds
    hpc results --metric 'valid_*' --sort valid_loss
    hpc results --csv > results.csv
    """
    if as_csv and as_json:
        fail("--csv or --json, not both")
    runs = runs_named(sweeps)
    try:
        every = as_csv or as_json or not any(run.result for run in runs)
        patterns = metric or (["*"] if every else [])
        table = asked = results_.table_of(runs, patterns, resources)
        for pattern in metric or []:
            if not _metrics(table, pattern):
                known = ", ".join(_metrics(results_.table_of(runs, ["*"]), "*"))
                fail(f"no metric {pattern}, but {known}" if known else results_.NO_METRICS)
        if patterns != ["*"] and (where or sort):  # which may be about other metrics
            table = results_.table_of(runs, ["*"], resources)
        silent = set(table.columns) - set(asked.columns)
        for condition in where or []:
            table = table.where(condition)
        count, order = len(table.rows), ""
        by = sort or (_result(table) if best else "")
        column = table.find(by) if by else ""  # while metrics have all their columns
        if over:
            table = table.over(over)
        if best:
            groups, lowest = len(table.rows), minimize or results_.lower_is_better(column)
            table = table.best(column, lowest)
            order = f"{'lowest' if lowest else 'highest'} {column} first"
            if left_out := groups - len(table.rows):
                order += f", {left_out} without such a number left out"
        elif column:
            table = table.sorted(column, descending=reverse)
    except ValueError as error:
        fail(str(error))
    table.rows = table.rows[:best]
    silent -= {column}
    table.columns = [name for name in table.columns if name.removesuffix(".std") not in silent]
    told = [{name: row.get(name) for name in table.columns} for row in table.rows]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, table.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(told)
    elif as_json:
        in_json(told)
    else:
        hidden = len(table.rows) - rows
        table.rows = table.rows[:rows]
        _print(table, [*([column] if column else []), *(used({}) if resources else [])])
        if hidden > 0:
            print(f"and {hidden} more; all of them: --rows={hidden + rows}, or --csv")
        said = [f"{len(runs)} runs: {records.counts(run.record for run in runs)}"]
        said += [f"{count} of them chosen"] if where else []
        said += [order] if order else []
        if over:
            said += [f"mean ± standard deviation over {', '.join(over)}, of completed runs"]
        print("; ".join(said))
        if resources:
            for line in advice(run.record for run in runs):
                print(line)
            if not any(run.record.get("attempts") for run in runs):
                print("What these runs used was not recorded.")


def runs_named(sweeps: list[str] | None) -> list[results_.Run]:
    """Those of the sweeps of these names, or of the newest.

    Raises:
        FileNotFoundError: of a sweep nothing was submitted.
    """
    return results_.runs_of(*all_named(sweeps))


def _metrics(table: Table, pattern: str) -> list[str]:
    """Those of which ``table`` has columns, and which ``pattern`` matches."""
    names = [name.removesuffix(".last") for name in table.columns if name.endswith(".last")]
    return [name for name in names if results_.is_meant(name, [pattern])]


def _result(table: Table) -> str:
    if len(table.results) == 1:
        return table.results[0]
    choice = table.results or [each for each in table.columns if each.endswith((".max", ".min"))]
    if not choice:
        raise ValueError("--best: no run has a result or a metric yet")
    raise ValueError(f"--best needs --sort=COLUMN: {', '.join(choice)}")


def _print(table: Table, wanted: Sequence[str]) -> None:
    """On a terminal, what there is room for: ``wanted`` columns after those of parameters and results."""
    from .._table import console, listing

    if table.constant:
        print(*(f"{name}={shown(value)}" for name, value in table.constant.items()))
    beside = table.spreads.values()  # the mean
    filled = {name for row in table.rows for name, value in row.items() if value is not None}
    columns = [name for name in table.columns if name in filled and name not in beside]
    where = console()
    names = results_.names_of(str(row["sweep"]) for row in table.rows if "sweep" in row)
    cells = {name: [_cell(table, row, name, names) for row in table.rows] for name in columns}
    first = {"sweep", "run", *table.parameters, *table.results, *wanted}
    fitting: list[str] = []
    room = where.width - 2
    for name in sorted(columns, key=lambda name: name not in first):
        width = min(max(map(len, (name, *cells[name]))), WIDEST) + 3
        if width <= room or not fitting:
            fitting.append(name)
            room -= width
    kept = [name for name in columns if name in fitting]
    printed = listing({name: cells[name] for name in kept})
    for name, column in zip(kept, printed.columns, strict=True):
        numbers = all(not isinstance(row.get(name), (str, bool)) for row in table.rows)
        column.justify, column.max_width = "right" if numbers else "left", WIDEST
        if name == "duration_s":
            column.header = "duration"
    where.print(printed)
    if left_out := [name for name in columns if name not in fitting]:
        print(f"no room for {', '.join(left_out)}: they are in --csv")


def _cell(table: Table, row: Row, name: str, names: Mapping[str, str]) -> str:
    value = row.get(name)
    if name == "sweep":
        return names[str(value)]
    if name == "duration_s" and results_.is_number(value):
        return results_.clock(value)
    spread = row.get(table.spreads.get(name, ""))
    if isinstance(value, (int, float)) and isinstance(spread, float):
        return _with_spread(value, spread)
    return shown(value)


def _with_spread(mean: float, spread: float) -> str:
    """``0.9479 ± 0.0031``: of the spread two digits, and the mean to the same place."""
    if not (math.isfinite(mean) and math.isfinite(spread)) or spread == 0:
        return f"{shown(mean)} ± {shown(spread)}"
    digits = 1 - math.floor(math.log10(spread))
    if abs(digits) > 6:
        return f"{mean:.4g} ± {spread:.2g}"
    return f"{mean:.{max(digits, 0)}f} ± {spread:.{max(digits, 0)}f}"
