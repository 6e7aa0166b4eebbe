"""Pictures of the runs of sweeps: learning curves, and the result against a parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from ._metrics import read_metrics
from ._records import ENDED_EARLY
from ._results import (
    NO_METRICS,
    Run,
    Table,
    Value,
    cut,
    is_number,
    mean_and_spread,
    order,
    shown,
    table_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's: told apart by the colour-blind too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
DASHES = ("-", "--", ":", "-.")
MANY = 12  # labels of a legend
LABEL, TICK = 30, 20  # characters of one, and of one below the x axis
ROOM, MOST_TICKS = 60, 30  # characters side by side there, and labels that are turned
FEW = 8
WIDE = 100  # as much as the highest value of a logarithmic axis is above the lowest, at least

Group = tuple[Value, ...]
Points = dict[Group, dict[Any, list[float]]]  # of each group by what is on the x axis


def learning_curves(runs: Sequence[Run], metric: str = "", by: Sequence[str] = ()) -> Figure:
    """A metric by step: for each value of ``by`` mean and standard deviation of the runs that have it; without
    ``by`` a line for each run. Runs that ended before their time are left out.

    Args:
        metric: its name; "" if there is only one.

    Raises:
        ValueError: there is no such metric or parameter; the message names those that there are.
    """
    table = table_of(runs)
    by = [_parameter(table, name) for name in by]
    whole = [
        (row, read_metrics(run.directory)) for run, row in zip(runs, table.rows, strict=True)
        if row["state"] not in ENDED_EARLY
    ]  # fmt: skip
    names = sorted({name for _, steps in whole for each in steps.values() for name in each})
    metric = metric or (names[0] if len(names) == 1 else "")
    if metric not in names:
        known = f"--metric is one of {', '.join(names)}"
        known = known if names else f"{NO_METRICS}; a result needs --against"
        if left_out := len(runs) - len(whole):
            known += f"; {left_out} that ended before their time are left out"
        raise ValueError(f"there is no metric {metric}: {known}" if metric else known)
    whole = [each for each in whole if any(metric in values for values in each[1].values())]
    each_alone = not by and len(whole) > FEW
    by = by or ([] if each_alone else table.parameters)
    curves: Points = {}
    for row, series in whole:
        group = tuple(row.get(name) for name in (("run", "sweep") if each_alone else by))
        for step, values in series.items():
            if metric in values:
                curves.setdefault(group, {}).setdefault(step, []).append(values[metric])
    figure, axes = _figure()
    if each_alone:
        _lines(axes, [[*zip(*_means(curve)[:2], strict=True)] for curve in curves.values()])
    for group, style in () if each_alone else _styled(curves):
        steps, means, spreads = _means(curves[group])
        axes.plot(steps, means, marker="." if len(steps) < 3 else "", **style)
        if any(spreads):
            within = {"color": style["color"], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(steps, means - spreads, means + spreads, **within)
    axes.set(xlabel="step", ylabel=_plain(metric))
    axes.locator_params(axis="x", integer=True)
    _explain(figure, table, len(curves), by, table.parameters if each_alone else by, len(whole))
    return figure


def against(
    runs: Sequence[Run], parameter: str, metric: str = "", by: Sequence[str] = ()
) -> Figure:
    """The result of completed runs, or the best of a metric, against a parameter: each run a point, and for each value
    of ``by`` mean and standard deviation.

    Args:
        metric: its name, or that of a number in the result; "" for the result.

    Raises:
        ValueError: there is no such metric, number or parameter; the message names those that there are.
    """
    table = table_of(runs, [metric] if metric else [])
    completed = [row for row in table.rows if row["state"] == "COMPLETED"]
    x, by = _parameter(table, parameter), [_parameter(table, name) for name in by]
    y = table.find(metric) if metric else next(iter(table.results), "")
    if len(table.results) > 1 and not metric:
        raise ValueError(f"choose one by --metric: {', '.join(table.results)}")
    known = [(row, value) for row in completed if is_number(value := row.get(y))]
    points: Points = {}
    for row, value in known:
        of_group = points.setdefault(tuple(row.get(name) for name in by), {})
        of_group.setdefault(row.get(x), []).append(value)
    if not points:
        raise ValueError("no completed run has a number as its result: name a --metric")
    figure, axes = _figure()
    values = sorted({value for group in points.values() for value in group}, key=order)
    place, side_by_side = _scale(axes, values)
    for number, (group, style) in enumerate(_styled(points)):
        aside = 0.6 * ((number + 0.5) / len(points) - 0.5) if side_by_side else 0
        found = {place(value) + aside: numbers for value, numbers in points[group].items()}
        dots = [(where, each) for where, numbers in found.items() for each in numbers]
        axes.plot(*zip(*dots, strict=True), ".", alpha=0.3, markersize=5, color=style["color"])
        if side_by_side:  # nothing lies between them
            style["linestyle"] = "none"
        axes.errorbar(*_means(found), capsize=3, marker="o", markersize=4, **style)
    axes.set(xlabel=_plain(x), ylabel=_plain(y))
    _explain(figure, table, len(points), by, [x, *by], len(known))
    return figure


def _means(found: Mapping[float, Sequence[float]]) -> Any:
    """Where they are, and mean and spread there; what has none, as of a seed that diverged, would stretch the axis."""
    import numpy

    means = [(where, *mean_and_spread(found[where])) for where in sorted(found)]
    known = [each for each in means if isfinite(each[1])]
    return numpy.nan_to_num(numpy.array(known, float).reshape(-1, 3)).T


def _parameter(table: Table, name: str) -> str:
    if name not in table.parameters:
        raise ValueError(f"{name} is none of what varies: {', '.join(table.parameters) or 'nothing does'}")  # fmt: skip
    return name


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and wants a display

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def _lines(axes: Axes, lines: Sequence[Sequence[tuple[int, float]]]) -> None:
    """Thin ones, as a collection: matplotlib draws it in a third of the time of so many lines, but none without points,
    as that of a run which diverged at once."""
    from matplotlib.collections import LineCollection

    lines = [line for line in lines if line]
    look: dict[str, Any] = {"color": COLORS[0], "alpha": max(0.05, 1 - len(lines) / 100)}
    axes.add_collection(LineCollection(lines, linewidth=0.8, **look))
    if short := [point for line in lines if len(line) < 3 for point in line]:
        axes.plot(*zip(*short, strict=True), ".", **look)
    axes.autoscale_view()


def _scale(axes: Axes, values: Sequence[Value]) -> tuple[Callable[[Value], Any], bool]:
    """Where on the x axis a value stands, and whether they are side by side, as text is, and infinity; numbers far
    apart are on a logarithmic axis."""
    numbers = [value for value in values if is_number(value) and isfinite(value)]
    if len(numbers) < len(values):
        every = -(-len(values) // MOST_TICKS)
        labels = [_plain(cut(shown(value) or "none", TICK)) for value in values[::every]]
        axes.set_xticks(range(0, len(values), every), labels)
        if sum(map(len, labels)) > ROOM:
            axes.tick_params(axis="x", rotation=90)
        axes.set_xlim(-0.6, len(values) - 0.4)
        return values.index, True
    lowest, highest = min(numbers), max(numbers)
    if lowest > 0 and highest / lowest >= WIDE:
        axes.set_xscale("log")
    if len(values) <= FEW:
        axes.set_xticks(numbers, [f"{value:g}" for value in numbers])
        axes.minorticks_off()
    return lambda value: value, False


def _styled(points: Points) -> Iterator[tuple[Group, dict[str, Any]]]:
    """Each group and how it looks: numbers in their order from dark to light, other values as different as possible;
    of two parameters the second one is told by the kind of line. Of many the legend has the first and the last, and
    some between."""
    from matplotlib import colormaps

    groups = sorted(points, key=_order)
    dashed = {len(group) for group in groups} == {2}
    seconds = sorted({group[1:] for group in groups}, key=_order) if dashed else []
    dashed = dashed and len(seconds) <= len(DASHES)
    firsts = sorted({group[:1] if dashed else group for group in groups}, key=_order)
    numeric = all(len(first) == 1 and is_number(first[0]) for first in firsts)
    in_order = len(firsts) > len(COLORS) or (numeric and len(firsts) > 3)
    labels = min(len(groups), MANY)
    named = {round(each * (len(groups) - 1) / max(labels - 1, 1)) for each in range(labels)}
    for number, group in enumerate(groups):
        place = firsts.index(group[:1] if dashed else group)
        color: Any = COLORS[place % len(COLORS)]
        if in_order:
            color = colormaps["viridis"](0.92 * place / max(len(firsts) - 1, 1))
        most = max(LABEL // max(len(group), 1), 10)
        label: Any = ", ".join(cut(shown(value) or "none", most) for value in group)
        dashes = DASHES[seconds.index(group[1:])] if dashed else "-"
        label = _plain(label) if number in named else None
        yield group, {"color": color, "linestyle": dashes, "label": label}


def _explain(
    figure: Figure, table: Table, groups: int, by: Sequence[str], apart: Sequence[str], runs: int
) -> None:
    """What is seen: the legend, beside the axes, where it hides no line, and a title."""
    if by:
        title = _plain(",\n".join(cut(name, LABEL) for name in by))
        title += f"\n(some of {groups})" if groups > MANY else ""
        figure.legend(title=title, loc="outside right upper", frameon=False)
    rest = [name for name in table.parameters if name not in apart]
    over = f"mean ± standard deviation over {', '.join(rest)}; " if rest else ""
    title = _plain(f"{over}{runs} runs")
    figure.axes[0].set_title(title, fontsize="small", loc="left", color="#555555")


def _plain(text: str) -> str:
    """No formula, whatever is in it."""
    return text.replace("$", r"\$")


def _order(group: Group) -> list[tuple[bool, Any]]:
    return [order(value) for value in group]
