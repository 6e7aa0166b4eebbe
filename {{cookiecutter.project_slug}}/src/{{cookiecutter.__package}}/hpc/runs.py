"""Records: what became of every run, in files that people and programs can read without Slurm.

`run.json` in each run's directory, `sweep.json` in the sweep's. Both are written atomically.

    python -m {{ cookiecutter.__package }}.hpc.runs [DIR]

prints the table of the sweep in DIR, by default of your newest one.
"""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import re
import shlex
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from . import signals, squeue
from .files import foreign_owner, write_atomically
from .paths import absolute
from .ranks import rank
from .source import provenance

log = logging.getLogger(__name__)

RUN, SWEEP = "run.json", "sweep.json"
COLORS = {
    "CANCELLED": "yellow", "COMPLETED": "green", "FAILED": "red", "LOST": "red", "RUNNING": "cyan",
    "STOPPED": "yellow", "TIMEOUT": "red",
}  # fmt: skip
ENDED = ("CANCELLED", "COMPLETED", "FAILED", "TIMEOUT")
ENDED_EARLY = ("CANCELLED", "FAILED", "LOST", "STOPPED", "TIMEOUT")


class LauncherError(CompactHydraException):
    """The runs of a sweep cannot be launched; the message says what to do."""


class RunFailed(LauncherError):
    """A run of a sweep did not complete."""


class RecordCallback(Callback):
    """Keeps `run.json` up to date, and gives each run or sweep a directory of its own.

    States: RUNNING, COMPLETED, FAILED, and STOPPED for a run that a signal ended before its time;
    a requeued one is RUNNING again once Slurm starts it. One that does not go on becomes CANCELLED or
    TIMEOUT.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            config.hydra.run.dir = str(_directory(config, "hydra.run.dir"))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            directory = _directory(config, "hydra.sweep.dir")
            config.hydra.sweep.dir = str(directory)
            OmegaConf.to_container(config.hydra.launcher, resolve=True)
            refuse_foreign(directory, directory / SWEEP)
            refuse_another_sweep(directory, typed_overrides(config))
        # Jobs compose their config anew, from these overrides.
        quoted = QuotedString(str(directory), Quote.single).with_quotes()
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted}")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if rank() > 0:
            return
        self.directory = Path(config.hydra.runtime.output_dir)
        before = read(self.directory / RUN)
        self.record = {
            "state": "RUNNING",
            "overrides": typed_overrides(config),
            "job_id": OmegaConf.select(config, "hydra.job.id"),
            "host": socket.gethostname(),
            "start": before.get("start", now()),
            "end": None,
            "restarts": before.get("restarts", -1) + 1,
            "result": None,
            "error": None,
        }
        signals.before_hand_over.append(self._on_stop)
        self._write()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if rank() > 0:
            return
        signals.before_hand_over.remove(self._on_stop)
        value = job_return._return_value  # `return_value` raises what the task raised
        if job_return.status is JobStatus.COMPLETED:
            self._write(state="COMPLETED", end=now(), result=value)
            log.info("completed with result %s, outputs in %s", value, self.directory)
        else:
            error = "".join(traceback.format_exception(type(value), value, value.__traceback__))
            self._write(state="FAILED", end=now(), error=error)

    def _on_stop(self, reason: str) -> None:
        self._write(state="STOPPED", end=now(), error=reason)

    def _write(self, **changes: Any) -> None:
        self.record.update(changes)
        write(self.directory / RUN, self.record)


@contextmanager
def _refusing() -> Iterator[None]:
    """End the command with a plain message where a run has no place to be, or its job no environment."""
    try:
        yield
    except OmegaConfBaseException as error:
        complaint = str(error).partition("\n")[0]
        variable = re.search("Environment variable '(.*)' not found", complaint)
        if variable:
            complaint = f"${variable[1]} is not set: export it"
        sys.exit(f"cluster.py: {complaint}")
    except OSError as error:
        sys.exit(f"OUTPUT_DIR in cluster.py: {error}")
    except LauncherError as error:
        sys.exit(str(error))


def _directory(config: DictConfig, key: str) -> Path:
    """The directory that ``config`` has at ``key``, a new one unless it was chosen."""
    directory = Path(OmegaConf.select(config, key)).absolute()
    overrides = config.hydra.overrides.hydra
    chosen = any(override.startswith(f"{key}=") for override in overrides)
    return directory if chosen else claim(directory)


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def claim(directory: Path) -> Path:
    """Make ``directory``; if it exists, ``directory_2`` or the next free one, so that two sweeps of the
    same second share none.

    If its parent is a colleague's who lets nobody else in, such as that of a day in a folder which a lab
    shares, it is made in one beside that, with the user's name: ``2026-01-31_ada``.

    Raises:
        OSError: it cannot be made.
    """
    number = 1
    while True:
        candidate = directory if number == 1 else directory.with_name(f"{directory.name}_{number}")
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
        except PermissionError:
            parent = directory.parent
            if not (parent.exists() and foreign_owner(parent.stat())):
                raise
            own = parent.with_name(f"{parent.name}_{getpass.getuser()}")
            return claim(own / directory.name)


def read(path: Path) -> dict[str, Any]:
    """The record at ``path``; empty if there is none."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return record


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record``; what JSON does not know goes in as its text."""
    write_atomically(path, json.dumps(record, indent=1, default=str) + "\n")


def record_sweep(
    directory: Path, cluster: str, overrides: Sequence[str], runs: Iterable[Mapping[str, Any]]
) -> None:
    """Put ``runs`` (number, overrides, job_id, log, ranks) into the `sweep.json` of ``directory``.

    Args:
        cluster: where the jobs are: "slurm" or "local".
        overrides: those of the whole sweep.
    """
    sweep = read(directory / SWEEP) or {
        "command": shlex.join(sys.orig_argv),
        "overrides": list(overrides),
        "start": now(),
        **provenance(),
        "runs": [],
    }
    numbered = {run["number"]: run for run in [*sweep["runs"], *runs]}  # a repeated run replaces
    sweep |= {"cluster": cluster, "host": socket.gethostname(), "runs": list(numbered.values())}
    write(directory / SWEEP, sweep)


def refuse_foreign(*paths: Path) -> None:
    """Raises:
    LauncherError: one of ``paths``, which need not exist, belongs to somebody else.
    """
    for path in paths:
        if path.exists() and (owner := foreign_owner(path.stat())):
            raise LauncherError(
                f"{path} belongs to {owner}: choose another hydra.sweep.dir=. What became of the runs of "
                f"a sweep there, tells\n    python -m {__package__}.runs {shlex.quote(str(paths[0]))}"
            )


def refuse_another_sweep(
    directory: Path, overrides: Sequence[str], runs: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Raises:
    LauncherError: ``directory`` has a sweep of other ``overrides``, or whose ``runs`` have.
    """
    sweep = read(directory / SWEEP)
    recorded = {run["number"]: run["overrides"] for run in sweep.get("runs", [])}
    pairs = [(sweep.get("overrides", overrides), list(overrides))]
    pairs += [(recorded.get(run["number"], run["overrides"]), run["overrides"]) for run in runs]
    for there, here in pairs:
        if there != here:
            raise LauncherError(
                f"{directory} has a sweep of other overrides:\n    there {' '.join(there)}\n"
                f"    here  {' '.join(here)}\nRepeat those to go on with it, or choose another "
                "hydra.sweep.dir=. Only hydra.* may change."
            )


def record_result(directory: Path, job_id: str, returned: JobReturn) -> None:
    """Write the `run.json` of a run whose app has no RecordCallback."""
    completed = returned.status is JobStatus.COMPLETED
    record = {
        "state": "COMPLETED" if completed else "FAILED",
        "overrides": list(returned.overrides or []),
        "job_id": job_id,
        "host": socket.gethostname(),
        "end": now(),
        "result": returned._return_value if completed else None,
        "error": None if completed else repr(returned._return_value),
    }
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / RUN, record)


def record_end(
    directory: Path, overrides: Sequence[str], job_id: str, reason: str, state: str = ""
) -> None:
    """Note in `run.json` why a run ended that could not do so itself, in the ``state`` that follows from
    the reason. What is known of its end already stays, but what a signal stopped may have ended since."""
    state = state or state_of(reason)
    record = read(directory / RUN)
    known = record.get("state") if record.get("job_id") == job_id else None
    if known in ENDED or known == state:
        return
    if known == "STOPPED":
        reason = f"{reason}, after {record['error']}"
    end = {"overrides": list(overrides), "job_id": job_id, "state": state, "end": now()}
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / RUN, {**record, **end, "result": None, "error": reason})


def explain(directory: Path, end: str) -> None:
    """Add to the error in `run.json` how Slurm says that the job ended."""
    record = read(directory / RUN)
    state = state_of(end) if record.get("state") != "COMPLETED" else "COMPLETED"
    write(directory / RUN, {**record, "state": state, "error": f"{end}: {record.get('error')}"})


def state_of(end: str) -> str:
    """The state of a run whose job ended like this, in Slurm's words and perhaps some more."""
    word = end.partition(" ")[0].rstrip(":;,")
    return word if word in ("CANCELLED", "TIMEOUT") else "FAILED"


def states(directory: Path) -> list[dict[str, Any]]:
    """What is known of each run of the sweep in ``directory``.

    Beside the states in `run.json`: NOT SUBMITTED; PENDING, not begun; LOST, still to do something
    by its record, but no longer in Slurm's queue, and Slurm does not know that it was cancelled.
    """
    sweep = read(directory / SWEEP)
    if not sweep:  # of a launcher that writes none, or a single run
        paths = [directory / RUN, *directory.glob(f"[0-9]*/{RUN}")]
        return [{"number": path.parent.name, **read(path)} for path in paths if path.exists()]
    runs = []
    for run in sweep["runs"]:
        state = {"state": "PENDING" if run["job_id"] else "NOT SUBMITTED"}
        record = read(directory / str(run["number"]) / RUN)
        if record.get("state") != "COMPLETED" and record.get("job_id") != run["job_id"]:
            record = {}  # of an earlier try
        runs.append({**state, **run, **record})
    going_on = [run for run in runs if run["state"] in ("PENDING", "RUNNING", "STOPPED")]
    if sweep["cluster"] == "slurm" and going_on:
        owner = (directory / SWEEP).stat()
        queue = squeue.states(owner.st_uid)
        if queue is None or (not queue and foreign_owner(owner)):  # a site may hide others' jobs
            return runs
        for run in going_on:
            if squeue.is_over(end := queue.get(run["job_id"])):
                known = state_of(end or "")
                run |= {"state": "LOST" if known == "FAILED" else known, "error": end}
    return runs


def typed_overrides(config: DictConfig) -> list[str]:
    """The overrides of a run or a sweep: not what ``${oc.env:TOKEN}`` in them stands for, as `list` of
    them would have it."""
    overrides: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    return list(overrides)


def shown(overrides: Sequence[str]) -> str:
    """Overrides without Hydra's own and the preset."""
    own = filter_overrides(overrides)
    return " ".join(override for override in own if not override.startswith("+setup="))


def print_table(directory: Path, rows: int = 100) -> None:
    """Print the runs of the sweep in ``directory``, and the logs of those that failed.

    Of more than ``rows`` runs, completed ones are left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runs = states(directory)
    listed = runs if len(runs) <= rows else [run for run in runs if run["state"] != "COMPLETED"]
    columns = ("run", "job", "overrides", "state", "restarts", "result")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for run in listed[:rows]:
        result = run.get("result")
        if isinstance(result, float):
            result = f"{result:.4g}"
        table.add_row(
            str(run["number"]),
            run.get("job_id") or "",
            Text(shown(run.get("overrides", []))),
            Text(run["state"], style=COLORS.get(run["state"], "")),
            str(run.get("restarts", "")),
            Text("" if result is None else str(result)),
        )
    if listed:
        console = Console() if sys.stdout.isatty() else Console(width=160)
        console.print(table)
    ended_early = [run for run in runs if run["state"] in ENDED_EARLY]
    for run in ended_early[:rows]:
        last_line = (run.get("error") or "").strip().rpartition("\n")[2]
        log_file = directory / (run.get("log") or str(run["number"]))
        log_text = f"log: {log_file}" if log_file.exists() else "no log"
        print(f"run {run['number']} {run['state'].lower()}: {last_line}")
        print(f"    {shown(run.get('overrides', []))}, {log_text}")
    if len(listed) > rows:
        print(f"and {len(listed) - rows} more; all of them: --rows={len(runs)}")
    counts = Counter(run["state"].lower() for run in runs)
    print(f"{len(runs)} runs:", ", ".join(f"{counts[state]} {state}" for state in counts))
    print(f"outputs: {directory}")


def main() -> None:
    """Print the table of a sweep."""
    parser = argparse.ArgumentParser(description="Print the table of a sweep.")
    parser.add_argument("directory", nargs="?", type=Path, help="default: your newest sweep")
    parser.add_argument(
        "--rows", type=int, default=100, help="at most; of more runs, completed ones are left out"
    )
    arguments = parser.parse_args()
    directory = arguments.directory
    if directory is None:
        from ..cluster import OUTPUT_DIR

        with _refusing():
            base = Path(OmegaConf.create([absolute(OUTPUT_DIR)])[0])
        own = (path for path in base.glob(f"*/*/{SWEEP}") if not foreign_owner(path.stat()))
        directory = max(own, default=base / SWEEP).parent
    if not states(directory):
        sys.exit(f"no runs in {directory}")
    print_table(directory, arguments.rows)


if __name__ == "__main__":
    main()
