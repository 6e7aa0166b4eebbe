"""A report about sweeps: one HTML file, which needs no network and no library of its reader."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import _records as records
from .._advice import advice
from .._files import tail
from .._metrics import read_metrics
from .._results import (
    Row,
    Run,
    Table,
    Value,
    clock,
    cut,
    is_number,
    lower_is_better,
    names_of,
    order,
    shown,
    table_of,
)

HERE = Path(__file__).parent
# Okabe and Ito's, and some of viridis: told apart by the colour-blind too.
DISTINCT = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
IN_ORDER = (
    "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70",
    "#7ad151", "#bddf26",
)  # fmt: skip
POINTS = 300_000  # of all learning curves of a metric
MOST_POINTS = 500  # of one
WIDE = 100  # as much as the highest value of a logarithmic axis is above the lowest, at least
LEGEND = 30  # values that are told apart there
MANY, TICK = 50, 24  # ticks of text, and characters of one
LOGS = 50  # of which the end is shown
LOG_BYTES = 6000


def report(runs: Sequence[Run], diff: bool = True) -> str:
    """The page about ``runs``.

    Args:
        diff: whether it shows what was not committed.

    Raises:
        ImportError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs

    read = cache(read_metrics)
    table, names = table_of(runs, ["*"], True, read), names_of(run.sweep for run in runs)
    series = [read(run.directory) for run in runs]
    several = len(names) > 1
    for row in table.rows if several else ():
        row["sweep"] = names[str(row["sweep"])]
    sweeps = list(dict.fromkeys(run.sweep for run in runs))
    advised = advice(run.record for run in runs)
    parts = {
        "title": escape(", ".join(names.values() if several else ["/".join(sweeps[0].parts[-2:])])),
        "summary": _summary(runs, table),
        "provenance": "".join(_provenance(sweep, diff) for sweep in sweeps),
        "table": _runs(table),
        "failures": _failures(runs, names if several else {}),
        "advice": "".join(f"<p><strong>{escape(each)}</strong></p>" for each in advised),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
        "data": _packed(json.dumps(_data(runs, table, series), allow_nan=False)),
        "plotly": _packed(get_plotlyjs()),
    }
    # In one pass, since what is put in may look like the name of a part.
    page = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\[\[(\w+)\]\]", lambda found: parts[found[1]], page)


def _packed(text: str) -> str:
    """A third of its size, and nothing in it that HTML could take for its own."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _summary(runs: Sequence[Run], table: Table) -> str:
    facts = {"runs": f"{len(runs)}: {records.counts(run.record for run in runs)}"}
    for name in table.results[:3]:
        lowest = lower_is_better(name)
        for row in table.best(name, lowest).rows[:1]:
            what = ", ".join(
                f"{each}={shown(row[each])}" for each in ("sweep", "run", *table.parameters)
                if row.get(each) is not None
            )  # fmt: skip
            how = "lowest" if lowest else "highest"
            facts[f"{how} {name}"] = f"{shown(row.get(name))}: {what}"
    if seconds := sum(run.duration_s or 0 for run in runs):
        facts["time of all runs"] = clock(seconds)
    if table.constant:
        constant = (f"{name}={shown(each)}" for name, each in table.constant.items())
        facts["the same in all"] = " ".join(constant)
    facts["report"] = f"{records.now()}, hpc-hydra {records.library_version()}"
    return _pairs(facts)


def _provenance(sweep: Path, diff: bool) -> str:
    record = records.read_sweep(sweep) or records.read(sweep / records.RUN)
    parts = [f"<h3>{escape(str(sweep))}</h3>"]
    for each in record.get("submissions") or [record]:
        facts = {
            "command": each.get("command"), "begun": each.get("start"),
            "host": record.get("host"), "commit": each.get("git_commit"),
        }  # fmt: skip
        if not each.get("git_diff"):
            kinds = {True: "nothing", False: "files that git does not track"}
            facts["not committed"] = kinds.get(each.get("git_clean"))
        versions = each.get("versions") or {}
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
        parts.append(_pairs({name: value for name, value in facts.items() if value}))
        if diff and each.get("git_diff"):
            text = tail(sweep / each["git_diff"], 200_000)
            parts.append(f"<details><summary>not committed: {escape(each['git_diff'])}</summary><pre>{escape(text)}</pre></details>")  # fmt: skip
    return "".join(parts)


def _pairs(facts: Mapping[str, str]) -> str:
    cells = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(cells)}</dl>"


def _runs(table: Table) -> str:
    columns = [
        name for name in table.columns if any(row.get(name) is not None for row in table.rows)
    ]
    head = ""
    for name in columns:
        numbers = all(is_number(row.get(name)) or row.get(name) is None for row in table.rows)
        kind = ' class="number"' if numbers else ""
        head += f'<th{kind} data-name="{escape(name)}"><button>{escape(name)}</button></th>'
    lines = []
    for place, row in enumerate(table.rows):
        cells = "".join(_cell(name, row.get(name)) for name in columns)
        lines.append(f'<tr data-place="{place}" class="{escape(str(row["state"]))}">{cells}</tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"


def _cell(name: str, value: Value) -> str:
    text = f"{value:.0f}" if name == "duration_s" and is_number(value) else shown(value)
    kind = ' class="number"' if is_number(value) else ""
    exact = f' data-exact="{value!r}"' if isinstance(value, float) else ""
    return f"<td{kind}{exact}>{escape(text)}</td>"


def _failures(runs: Sequence[Run], names: Mapping[str, str]) -> str:
    """One of those that ended alike, with the end of its log."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        if end := records.early_end(run.record):
            alike.setdefault(end, []).append(run)
    parts = []
    for end, (run, *others) in list(alike.items())[:LOGS]:
        log = run.sweep / (run.record.get("log") or "none")
        text, what = tail(log, LOG_BYTES), f"The end of {log}"
        if not text:
            text, what = (run.record.get("error") or "").strip(), "Without a log"
        overrides = records.shown(run.record.get("overrides", []))
        where = f"{names[str(run.sweep)]}, " if names else ""
        more = f" and {len(others)} more" if others else ""
        title = f"{where}run {run.number}{more} {end}"
        parts.append(
            f"<details><summary>{escape(title)}<br><small>{escape(overrides)}</small></summary>"
            f"<p>{escape(what)}</p><pre>{escape(text)}</pre></details>"
        )
    if len(alike) > LOGS:
        parts.append(f"<p>and {len(alike) - LOGS} other kinds of failures</p>")
    return "".join(parts) or "<p>All runs have completed, or go on.</p>"


def _data(
    runs: Sequence[Run], table: Table, series: Sequence[Mapping[int, Mapping[str, float]]]
) -> dict[str, Any]:
    """What the charts show. Texts in it are escaped, since plotly takes some of HTML for its own."""
    known = {name for steps in series for values in steps.values() for name in values}
    names = sorted(known, key=lambda name: ("val" not in name and "test" not in name, name))
    at_most = min(max(POINTS // len(runs), 20), MOST_POINTS)
    several = "sweep" in table.columns
    labels = []
    for row in table.rows:
        where = f"{row['sweep']}, " if several else ""
        what = "".join(f"<br>{_text(name)}={_text(row.get(name))}" for name in table.parameters)
        labels.append(f"<b>{_text(where)}run {_text(row['run'])}</b>{what}")
    curves = []
    for curve in series:
        # Of each metric, since one may be there at every step and another at every tenth.
        thinned = (
            _thinned([step for step in curve if name in curve[step]], at_most) for name in names
        )
        kept = sorted({step for steps in thinned for step in steps})
        columns = [[_finite(curve[step].get(name)) for step in kept] for name in names]
        curves.append({"steps": kept, "values": columns})
    axes = [*table.parameters, *table.results]
    if not table.results:
        axes += [name for name in table.columns if name.endswith((".max", ".min"))][:3]
    drawn = {name: _axis(name, table.rows, name in table.parameters) for name in axes}
    return {
        "labels": labels,
        "metrics": [_text(name) for name in names],
        "curves": curves,
        "groups": [_groups(name, table.rows) for name in table.parameters],
        "axes": [axis for axis in drawn.values() if axis],
        "color": len([name for name in table.parameters if drawn[name]]),
    }


def _thinned(steps: Sequence[int], at_most: int) -> Sequence[int]:
    """Some of them, the last one in any case."""
    return steps[:: -max(-(-len(steps) // at_most), 1)]


def _groups(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """By the values of a parameter: their names and colors, and to which each run belongs. Of many, which would take
    a browser minutes, those of one color are one."""
    values = sorted({row.get(name) for row in rows}, key=order)
    numeric = all(map(is_number, values)) and len(values) > 2
    palette = IN_ORDER if numeric or len(values) > len(DISTINCT) else DISTINCT
    last = max(len(values) - 1, 1) if palette is IN_ORDER else len(palette) - 1
    colors = [palette[round(place * (len(palette) - 1) / last)] for place in range(len(values))]
    color_of = dict(zip(values, colors, strict=True))
    alike = [[*each] for _, each in groupby(values, color_of.get if len(values) > LEGEND else None)]
    group_of = {value: place for place, group in enumerate(alike) for value in group}
    ends = [dict.fromkeys(_text(each[end]) or "none" for end in (0, -1)) for each in alike]
    return {
        "name": _text(name), "values": [" to ".join(each) for each in ends],
        "colors": [color_of[each[0]] for each in alike],
        "of": [group_of[row.get(name)] for row in rows],
    }  # fmt: skip


def _axis(name: str, rows: Sequence[Row], parameter: bool) -> dict[str, Any] | None:
    """Of the parallel coordinates; text has its values side by side, numbers far apart are logarithms. A run
    without a parameter is at "none", one without a result has no line; infinity is placed like a text."""
    values = [row.get(name) for row in rows]
    known = [value for value in values if value is not None or parameter]
    if len({shown(value) for value in values}) < 2:
        return None
    if all(_finite(value) is not None if parameter else is_number(value) for value in known):
        numbers = sorted({each for each in known if is_number(each) and math.isfinite(each)})
        wide = numbers and numbers[0] > 0 and numbers[-1] / numbers[0] >= WIDE
        places: dict[Value, float] = {n: math.log10(n) if wide else n for n in numbers}
        at: list[Value] = [*numbers]
        if len(numbers) > 12:
            at = [numbers[0], numbers[len(numbers) // 2], numbers[-1]] if wide else []
    else:
        at = sorted(dict.fromkeys(known), key=lambda each: (each is not None, order(each)))
        places = {each: place for place, each in enumerate(at)}
    if not places or len(at) > MANY:
        return None
    texts = [shown(each) or "none" for each in at]  # these it takes as they are
    short = [cut(text, TICK) for text in texts]
    short = texts if len({*short}) < len(texts) else short  # else it takes them for one
    axis = {"label": _text(name), "values": [_finite(places.get(each)) for each in values]}
    return axis | ({"tickvals": [places[each] for each in at], "ticktext": short} if at else {})


def _text(value: Value) -> str:
    return escape(shown(value), quote=False)


def _finite(value: Value) -> float | None:
    """In five digits; JSON has no NaN."""
    return float(f"{value:.5g}") if is_number(value) and math.isfinite(value) else None
