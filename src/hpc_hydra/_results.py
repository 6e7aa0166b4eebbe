"""The runs of sweeps as the rows of one table, from their records: what they varied and what came of it."""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from . import _records as records
from . import _squeue as squeue
from ._advice import used
from ._metrics import read_metrics

if TYPE_CHECKING:
    import pandas

Value = int | float | bool | str | None
Row = dict[str, Value]
Series = dict[int, dict[str, float]]  # the metrics of a run, by step

NO_METRICS = "these runs have no metrics: log_metrics(...) in the task writes them"
# One NaN for all, which is then found among others.
CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None, "nan": math.nan}
OWN = {"sweep", "run", "state", "result", "duration_s", "restarts", "runs", "step", *used({})}
# Of a metric so called the lowest value is the best.
LOWER = {"loss", "error", "err", "mse", "rmse", "mae", "nll", "ppl", "perplexity", "wer", "cer", "fid"}  # fmt: skip
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "=": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le,
    ">": operator.gt, "<": operator.lt,
}  # fmt: skip
ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")  # as Hydra writes `a:b` into the overrides of a run
CONDITION = re.compile(r"\s*([^=!<>]+?)\s*(==|!=|>=|<=|=|>|<)\s*(.*?)\s*")


@dataclass
class Table:
    """A row for each run."""

    parameters: list[str]  # the columns of what varies; after sweep and run, before all others
    results: list[str]  # those of what the task returned
    columns: list[str]
    rows: list[Row]
    constant: Row = field(default_factory=dict)  # what all runs have in common
    spreads: Mapping[str, str] = field(default_factory=dict)  # their columns, by those of means

    def find(self, name: str) -> str:
        """The column of this name, the number in the result, the best of this metric, or the only column that ends
        with it after a dot.

        Raises:
            ValueError: there is none, or more than one; the message names those that there are.
        """
        name = name.strip()
        # As `duration` is headed.
        for each in (name, f"result.{name}", f"{name}.max", f"{name}.min", f"{name}_s"):
            if each in self.columns:
                return each
        if len(ending := [each for each in self.columns if each.endswith(f".{name}")]) == 1:
            return ending[0]
        if name in self.constant:
            raise ValueError(f"{name} is the same in all runs: {shown(self.constant[name])}")
        raise ValueError(f"no column {name}, but {', '.join(ending or self.columns)}")

    def where(self, condition: str) -> Table:
        """Those rows of which a ``condition`` such as ``lr>0.01`` or ``model=mlp`` is true.

        Raises:
            ValueError: there is no such column, or it is no condition, or compares numbers with a text.
        """
        if not (found := CONDITION.fullmatch(condition)):
            raise ValueError(f"{condition}: a condition is a column, one of {' '.join(COMPARISONS)}, and a value, in quotes")  # fmt: skip
        column, compare, wanted = self.find(found[1]), COMPARISONS[found[2]], value_of(found[3])
        texts = {isinstance(row[column], str) for row in self.rows if row.get(column) is not None}
        if isinstance(wanted, str) and texts == {False}:
            raise ValueError(f"{condition}: {column} is never a text like {wanted!r}; each condition has its own --where")  # fmt: skip

        def holds(row: Row) -> bool:
            value = row.get(column)
            if found[2] in ("=", "==", "!="):
                equal = value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
                equal = equal or (value != value and wanted != wanted)  # NaN, for who looks for it
                return equal == (found[2] != "!=")
            comparable = isinstance(value, str) == isinstance(wanted, str)
            return None not in (value, wanted) and comparable and compare(value, wanted)

        return replace(self, rows=[row for row in self.rows if holds(row)])

    def sorted(self, name: str, descending: bool = False) -> Table:
        """By a column; rows that have nothing there, or no number, come last in either order.

        Raises:
            ValueError: there is no such column.
        """
        column = self.find(name)
        known = [row for row in self.rows if not _missing(row.get(column))]
        others = [row for row in self.rows if _missing(row.get(column))]
        known.sort(key=lambda row: order(row[column]), reverse=descending)
        return replace(self, rows=known + others)

    def best(self, name: str, lowest: bool) -> Table:
        """Those rows that have a number in a column, the best first.

        Raises:
            ValueError: there is no such column.
        """
        column = self.find(name)
        known = [
            row for row in self.rows if is_number(row.get(column)) and not _missing(row[column])
        ]
        return replace(self, rows=known).sorted(column, descending=not lowest)

    def over(self, names: Sequence[str]) -> Table:
        """Mean and spread, the sample's standard deviation, of all numbers of the completed runs that differ
        in nothing but ``names``.

        Raises:
            ValueError: there is none of such a name; or it is none of what varies.
        """
        names = [self.find(name) for name in names]
        if strange := set(names) - set(self.parameters):
            raise ValueError(
                f"{', '.join(strange)}: a mean is taken over what varies: {', '.join(self.parameters)}"
            )
        by = [name for name in self.parameters if name not in names]
        groups: dict[tuple[Value, ...], list[Row]] = {}
        for row in self.rows:
            if row["state"] == "COMPLETED":
                groups.setdefault(tuple(row.get(name) for name in by), []).append(row)
        rows: list[Row] = []
        apart = {*self.parameters, "sweep", "run", "restarts", *used({})}
        averaged = [
            name for name in self.columns
            if name not in apart and any(is_number(row.get(name)) for row in self.rows)
        ]  # fmt: skip
        for key, group in groups.items():
            mean: Row = {**dict(zip(by, key, strict=True)), "runs": len(group)}
            for name in averaged:
                if values := [value for each in group if is_number(value := each.get(name))]:
                    mean[name], mean[f"{name}.std"] = mean_and_spread(values)
            rows.append(mean)
        columns = [*by, "runs", *(each for name in averaged for each in (name, f"{name}.std"))]
        results = [name for name in self.results if name in averaged]
        spreads = {name: f"{name}.std" for name in averaged}
        return Table(by, results, columns, rows, self.constant, spreads)


@dataclass
class Run:
    """What is known of a run."""

    sweep: Path
    number: int | str
    parameters: Row  # all of them, constant ones too
    record: Mapping[str, Any]

    @property
    def directory(self) -> Path:
        """Its own below that of the sweep, or the same if it is a single run."""
        return records.folder_of(self.sweep, self.number)

    @property
    def duration_s(self) -> float | None:
        """In the jobs, without the time between them; of one under way, until now."""
        return records.running_s(self.record)

    @property
    def result(self) -> Row:
        """What the task returned as columns: `result`, or one for each name in a dict of numbers."""
        return dict(flat("result", self.record.get("result")))


def runs_of(*sweeps: str | Path) -> list[Run]:
    """Those of the sweeps, or the single runs, in these directories.

    Raises:
        FileNotFoundError: there are none in one of them.
    """
    found, jobs = [], cache(squeue.jobs)
    for directory in dict.fromkeys(map(Path, sweeps)):
        states = records.states(directory, jobs)
        if not states:
            raise FileNotFoundError(f"no runs in {directory}")
        for record in states:
            number: int | str = record["number"]
            number = int(number) if str(number).isdecimal() else number
            found.append(Run(directory, number, parameters_of(record.get("overrides", [])), record))
    return found


def table_of(
    runs: Sequence[Run], metrics: Sequence[str] = (), resources: bool = False,
    read: Callable[[Path], Series] = read_metrics,
) -> Table:  # fmt: skip
    """The table of ``runs``.

    Args:
        metrics: patterns for the names of metrics: last and best of those that match. Only for them the
            metrics of runs are read.
        resources: also what each run used and asked for.
        read: what gives the metrics in a run's directory.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.parameters))
    parameters = [_with_defaults(run, names) for run in runs]
    values = {name: [own.get(name) for own in parameters] for name in names}
    varying = [name for name, own in values.items() if not all(_same(each, own[0]) for each in own)]
    several = len({run.sweep for run in runs}) > 1
    rows: list[Row] = []
    for run, own in zip(runs, parameters, strict=True):
        row: Row = {"sweep": str(run.sweep)} if several else {}
        row |= {"run": run.number, **{name: own.get(name) for name in varying}}
        row |= {"state": run.record["state"], **run.result}
        if metrics:
            row |= last_and_best(read(run.directory), metrics, names)
        row |= {"duration_s": run.duration_s, "restarts": run.record.get("restarts")}
        if resources:
            row |= used(run.record)
        rows.append(row)
    # The widest row first, so that what only some runs have stands where it belongs.
    columns = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    ends = [name for name in ("duration_s", "restarts", *used({})) if name in columns]
    ordered = [*(name for name in columns if name not in ends), *ends]
    results = list(dict.fromkeys(name for run in runs for name in run.result))
    constant = {name: values[name][0] for name in names if name not in varying}
    return Table(varying, results, ordered, rows, constant)


def _with_defaults(run: Run, names: Iterable[str]) -> Row:
    """The parameters of a run; of these ``names`` those that it left at their defaults too, by Hydra's files."""
    missing = [name for name in names if name not in run.parameters]
    if not missing:
        return run.parameters
    found, folder = dict(run.parameters), run.directory / ".hydra"
    config: Any = _yaml(folder / "config.yaml")
    # Of groups, which one such as an experiment may have chosen too; the file is large, and seldom needed.
    choices = cache(lambda: _at(_yaml(folder / "hydra.yaml"), "hydra.runtime.choices") or {})
    for name in missing:
        value = _at(config, name.removeprefix("parameter."))
        if isinstance(value, dict):
            value = choices().get(name)
        elif isinstance(value, list):  # as it is typed: [1,true,a]
            value = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
            value = value.replace('"', "")
        if value is not None and "${" not in str(value):
            found[name] = value if isinstance(value, (bool, int, float)) else str(value)
    return found


def _at(config: Any, name: str) -> Any:
    """What ``config`` has at a dotted ``name``; None if it has nothing there."""
    for key in name.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _yaml(path: Path) -> Any:
    """What Hydra has written to ``path``; nothing if it is not there."""
    import yaml  # slow

    with suppress(OSError, yaml.YAMLError):
        text = path.read_text(encoding="utf-8", errors="replace")
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    return {}


def load(*sweeps: str | Path, metrics: bool = False) -> pandas.DataFrame:
    """The runs of one or several sweeps as a DataFrame of pandas, a row for each run.

    Columns: `sweep` and `run`, each parameter that varies, `state`, the result (`result`, or
    `result.NAME` if it is a dict), last and best of each metric (`NAME.last`, and `NAME.max`, or `NAME.min` of a
    loss or an error), `duration_s`, `restarts`, and what the run used and asked for. What is the same in all runs stands in
    ``frame.attrs["constant"]``.

    Args:
        sweeps: their directories.
        metrics: a row for each step of each run instead: `sweep`, `run`, the parameters, `step`, and each metric,
            which is `metric.NAME` if one of the others is called so.

    Raises:
        FileNotFoundError: there are no runs in one of the directories.
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "hpc_hydra.load needs pandas: pip install 'hpc-hydra[results]'"
        ) from error
    runs = runs_of(*sweeps)
    table = table_of(runs, () if metrics else ("*",), resources=not metrics)
    rows = [{**row, "sweep": str(run.sweep)} for run, row in zip(runs, table.rows, strict=True)]
    columns = ["sweep", *(name for name in table.columns if name != "sweep")]
    if metrics:
        by_step: list[Series] = [read_metrics(run.directory) for run in runs]
        columns = ["sweep", "run", *table.parameters, "step"]
        names = {
            name: f"metric.{name}" if name in columns else name
            for each in by_step for step in each.values() for name in step
        }  # fmt: skip
        rows = [
            {**{name: row.get(name) for name in columns}, "step": step,
             **{names[name]: value for name, value in values.items()}}
            for row, steps in zip(rows, by_step, strict=True) for step, values in steps.items()
        ]  # fmt: skip
        columns += names.values()
    frame = pandas.DataFrame(rows, columns=columns)
    frame.attrs["constant"] = table.constant
    return frame


def parameters_of(overrides: Iterable[str]) -> Row:
    """What a run's overrides set, without Hydra's own and the preset."""
    found: Row = {}
    for override in overrides:
        if records.hydras_own(override):
            continue
        name, _, value = override.partition("=")
        if name.startswith("~"):
            found[name] = True  # it is deleted
            continue
        name = name.lstrip("+")
        taken = name in OWN or name.startswith("result.")
        found[f"parameter.{name}" if taken else name] = value_of(value)
    return found


def names_of(sweeps: Iterable[str | Path]) -> dict[str, str]:
    """What a reader tells these directories by: as much of each as they do not have in common."""
    paths = sorted({str(each) for each in sweeps})
    if not paths:
        return {}
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    return {path: os.path.relpath(path, shared) for path in paths}


def value_of(text: str) -> Value:
    """What a value of Hydra's command line stands for; lists, dicts and the like remain text."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(f"\\{text[0]}", text[0])
    word = text.lower()
    if word in CONSTANTS:
        return CONSTANTS[word]
    if "infinity" in word or re.match(r"[+-]?0[\d_]", word):  # a number to Python alone
        return text
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text if text[:1] in ("[", "{") else ESCAPED.sub(r"\1", text)


def shown(value: Value) -> str:
    """``value`` for a reader: numbers in four digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return records.one_line(str(value))


def cut(text: str, most: int) -> str:
    """Its end, if it is longer: texts of a sweep often begin alike."""
    return text if len(text) <= most else f"…{text[1 - most :]}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it has a mean; a truth has not."""
    if isinstance(value, int):
        return not isinstance(value, bool) and value.bit_length() < 1000  # a float has room for it
    return isinstance(value, float)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the standard deviation of a sample, which one value alone has not."""
    mean = sum(map(float, values)) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.hypot(*(each - mean for each in values)) / math.sqrt(len(values) - 1)


def lower_is_better(name: str) -> bool:
    """Whether a metric of this name is a loss or an error."""
    words = re.split(r"[\W_]+", name.lower())
    return any(word in LOWER or word.endswith(("loss", "error")) for word in words)


def last_and_best(by_step: Series, patterns: Sequence[str], taken: Sequence[str]) -> Row:
    """Of each metric that matches one of ``patterns``, in columns whose names are not ``taken``."""
    series: dict[str, list[float]] = {}
    for values in by_step.values():
        for name, value in values.items():
            series.setdefault(name, []).append(value)
    found: Row = {}
    for name, numbers in series.items():
        if is_meant(name, patterns):
            best, how = (min, "min") if lower_is_better(name) else (max, "max")
            known = [each for each in numbers if not math.isnan(each)]
            found |= {f"{name}.last": numbers[-1], f"{name}.{how}": best(known, default=math.nan)}
    return {f"metric.{name}" if name in taken else name: value for name, value in found.items()}


def is_meant(metric: str, patterns: Sequence[str]) -> bool:
    """Whether one of ``patterns`` matches it, or is its name: ``[a]b`` is not ``ab`` alone."""
    return metric in patterns or any(fnmatchcase(metric, each) for each in patterns)


def flat(name: str, result: Any) -> Iterable[tuple[str, Value]]:
    """The columns of a ``result``: one of this ``name``, or one for each value of a dict or a list."""
    if isinstance(result, dict):
        for key, value in result.items():
            yield from flat(f"{name}.{key}", value)
    elif isinstance(result, list):
        for place, value in enumerate(result):
            yield from flat(f"{name}.{place}", value)
    elif result is not None:
        yield name, result


def _missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def order(value: Value) -> tuple[bool, Any]:
    """By which to sort: numbers come first, then the rest as text."""
    return (False, value) if is_number(value) else (True, str(value))


def _same(one: Value, other: Value) -> bool:
    """1 and True, and 1 and 1.0, are not."""
    return type(one) is type(other) and (one == other or (_missing(one) and _missing(other)))
