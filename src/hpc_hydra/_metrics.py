"""Metrics of a run, in a file: tables, plots, and W&B after a kill, read them from there."""

from __future__ import annotations

import errno
import json
import logging
import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import _attempt as attempt
from ._files import tail
from ._ranks import rank

log = logging.getLogger(__name__)

FILE = "metrics.jsonl"
TAIL = 65536  # bytes, of which the last line is a part
KEPT = 1024**2  # bytes of lines that wait until they can be written

#: Where the run under way keeps its files; None: there is no run.
directory: Path | None = None
#: Called with the metrics and the step, after the file.
listeners: list[Callable[[Mapping[str, Any], int], None]] = []
#: How many lines could not be written at once since the process began.
unwritten = 0
_kept: dict[Path, bytes] = {}  # such lines, by their file

_warned: set[tuple[Path | None, str]] = set()


def log_metrics(
    metrics: Mapping[str, Any], step: int, output_dir: str | Path | None = None
) -> None:
    """Append ``metrics`` to the run's `metrics.jsonl`, and tell W&B the same if it is on.

    To be called on every rank: only the first one writes. A step that a resumed run repeats stands for
    the earlier one. What is no number, an image for instance, goes to W&B alone. A file that cannot be
    written costs a warning: the line is written with the next one, the next checkpoint, or at the run's end.

    Args:
        metrics: a number for each name, also as a scalar of NumPy or PyTorch.
        step: where on the axis; it goes on in a resumed run.
        output_dir: of the run; by default that of the run under way. Without one, there is no file.

    Raises:
        TypeError: ``step`` is no integer.
    """
    global unwritten
    try:
        step = operator.index(step)
    except TypeError:
        raise TypeError(f"log_metrics(metrics, step): the step is no integer: {step!r}") from None
    if rank() > 0:
        return
    attempt.hold()
    told = {str(name): plain(value) for name, value in metrics.items()}
    numbers = {name: strict(value) for name, value in told.items() if _is_number(value)}
    folder = output_dir if output_dir is not None else directory
    if folder is not None and numbers:
        line = {"step": step, "time": round(time.time(), 3), "values": numbers}
        try:
            _append(Path(folder, FILE), json.dumps(line, allow_nan=False).encode() + b"\n")
        except OSError as error:
            unwritten += 1
            warn(f"step {step} is not written yet", error)
    for listener in list(listeners):
        try:
            listener(told, step)
        except Exception as error:
            warn(f"step {step} is not taken", error)


def read_metrics(path: Path | str) -> dict[int, dict[str, float]]:
    """The metrics of a run by step, in ascending order; of a metric that comes again at a step the last.

    Lines that are cut short, or are no metrics, are passed over. Without the file there are none.

    Args:
        path: the run's directory, or its `metrics.jsonl`.

    Raises:
        OSError: the file is there, but cannot be read.
    """
    path = Path(path)
    try:
        content = (path / FILE if path.is_dir() else path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[int, dict[str, float]] = {}
    for record in _parsed(content.splitlines()):
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            values = {name: _loose(value) for name, value in record["values"].items()}
            found.setdefault(operator.index(record["step"]), {}).update(values)
    return dict(sorted(found.items()))


def _parsed(lines: list[bytes]) -> Iterator[Any]:
    """At once, which takes half as long, unless one is cut short."""
    try:
        yield from json.loads(b"[%s]" % b",".join(lines))
    except ValueError:
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)


def write_kept(run: Path) -> None:
    """Write those lines of the directory ``run`` that could not be written before.

    Raises:
        OSError: they still cannot be.
    """
    path = run / FILE
    if path in _kept:
        attempt.hold()
        _append(path, b"")


def newest_step(run: Path) -> int | None:
    """The step on the last whole line of the metrics in the directory ``run``, however many there are; None if
    there is none, or it cannot be read."""
    for size in (TAIL, 256 * TAIL):  # a line of thousands of metrics is long
        for line in reversed(tail(run / FILE, size).split("\n")):
            with suppress(ValueError, TypeError, KeyError):
                return operator.index(json.loads(line)["step"])
    return None


def plain(value: Any) -> Any:
    """A scalar of NumPy, PyTorch and the like as a number of Python; anything else as it is."""
    try:
        number = value.item()
    except Exception:  # there is no such method, or it has more than one element
        return value
    return number if _is_number(number) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def strict(number: Any) -> Any:
    """JSON has no NaN and no Infinity: they are strings, as in protobuf's JSON."""
    return number if isinstance(number, int) or math.isfinite(number) else json.dumps(float(number))


def _loose(value: Any) -> Any:
    if _is_number(value):
        return value if abs(value) < sys.float_info.max else math.inf if value > 0 else -math.inf
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    raise ValueError(f"no number: {value!r}")


def _append(path: Path, line: bytes) -> None:
    """Write ``line`` and what was kept of ``path`` before; what cannot be written is kept."""
    lines, written = _kept.pop(path, b"") + line, 0
    try:
        # Opened for each line: a requeued run may have gone on elsewhere, and so the file with it.
        with path.open("ab+", buffering=0) as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                if file.read(1) != b"\n":  # its writer was killed
                    file.write(b"\n")
            written = file.write(lines)
        if written < len(lines):
            raise OSError(errno.ENOSPC, "no room for all of a line", str(path))
    except OSError:
        left = lines[lines.rfind(b"\n", 0, written) + 1 :]
        _kept[path] = left[: left.rfind(b"\n", 0, KEPT) + 1]
        raise


def warn(what: str, error: Exception) -> None:
    """Tell of each cause once in a run, since the same befalls each step."""
    cause = f"{type(error).__name__}: {error}"
    if (directory, cause) not in _warned:
        _warned.add((directory, cause))
        log.warning("%s: %s", what, cause)
