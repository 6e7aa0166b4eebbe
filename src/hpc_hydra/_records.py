"""Records: what became of every run, in files that people and programs can read without Slurm.

`run.json` in each run's directory, `sweep.json` in the sweep's. Both are written atomically, and name
the version of their format and of the library that wrote them.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import shlex
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from . import _metrics as metrics
from . import _signals as signals
from . import _squeue as squeue
from ._files import foreign_owner, write_atomically
from ._hydra import value_of
from ._overrides import refuse_unknown, typed_overrides
from ._ranks import global_rank
from ._source import Source

log = logging.getLogger(__name__)

RUN, SWEEP = "run.json", "sweep.json"
FORMAT = 1
ENDED = ("CANCELLED", "COMPLETED", "FAILED", "TIMEOUT")

#: In a job: which submission its runs belong to, and which code they run.
origin: dict[str, Any] | None = None


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
        with _refusing("hydra.run.dir"):
            refuse_unknown(typed_overrides(config), config)
            directory = _directory(config, "hydra.run.dir")
            directory.mkdir(parents=True, exist_ok=True)
            with read_write(config.hydra):  # Hydra 1.4 locks it before
                config.hydra.run.dir = str(directory)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing("hydra.sweep.dir"):
            directory = _directory(config, "hydra.sweep.dir")
            with read_write(config.hydra):
                config.hydra.sweep.dir = str(directory)
            OmegaConf.to_container(config.hydra.launcher, resolve=True)
            refuse_foreign(directory, directory / SWEEP)
            refuse_another_sweep(directory, typed_overrides(config))
        # Jobs compose their config anew, from these overrides.
        quoted = QuotedString(str(directory), Quote.single).with_quotes()
        with open_dict(config), read_write(config.hydra):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted}")

    def on_job_start(self, config: DictConfig, task_function: Any = None, **kwargs: Any) -> None:
        self.directory = metrics.directory = Path(config.hydra.runtime.output_dir)
        before = read(self.directory / RUN)
        signals.raised_before = before.get("state") == "STOPPED" and ", then " in before["error"]
        if global_rank() > 0:
            return
        self.record = {
            "state": "RUNNING",
            "overrides": typed_overrides(config),
            "job_id": OmegaConf.select(config, "hydra.job.id"),
            "host": socket.gethostname(),
            "python": sys.executable,
            "start": before.get("start", now()),
            "end": None,
            "restarts": before.get("restarts", -1) + 1,
            "result": None,
            "error": None,
            **(
                submission_record(Source(task_function), self.directory, "")
                if origin is None
                else origin
            ),
        }
        signals.before_hand_over.append(self._on_stop)
        self._write()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        metrics.directory = None
        if global_rank() > 0 or self._on_stop not in signals.before_hand_over:
            return
        signals.before_hand_over.remove(self._on_stop)
        value = value_of(job_return)
        if job_return.status is JobStatus.COMPLETED:
            self._write(state="COMPLETED", end=now(), result=value)
            log.info("completed with result %s, outputs in %s", value, self.directory)
        else:
            error = "".join(traceback.format_exception(type(value), value, value.__traceback__))
            self._write(state="FAILED", end=now(), error=error)

    def _on_stop(self, reason: str) -> None:
        self._write(state="STOPPED", end=now(), error=reason)
        signals.before_hand_over.remove(self._on_stop)

    def _write(self, **changes: Any) -> None:
        self.record.update(changes)
        write(self.directory / RUN, self.record)


@contextmanager
def _refusing(key: str) -> Iterator[None]:
    """End the command with a plain message where a run has no place to be, at ``key`` of the config, or
    its job no environment."""
    try:
        yield
    except OmegaConfBaseException as error:
        complaint = str(error).partition("\n")[0]
        variable = re.search("Environment variable '(.*)' not found", complaint)
        sys.exit(f"${variable[1]} is not set: export it" if variable else complaint)
    except OSError as error:
        sys.exit(f"{key}, where outputs go: {error}")
    except HydraException as error:
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
    """Write ``record``: numpy's and torch's scalars as numbers, what else JSON does not know as its text."""
    header = {"format": FORMAT, "library": library_version()}
    write_atomically(path, json.dumps({**record, **header}, indent=1, default=_plain) + "\n")


@cache
def library_version() -> str:
    """That of the installed hpc-hydra."""
    return version("hpc-hydra")


def _plain(value: Any) -> Any:
    number = metrics.plain(value)
    return str(value) if number is value else number


def submission_record(source: Source, directory: Path, name: str) -> dict[str, Any]:
    """The code of a run, or of a sweep's submission: the names of its commit and of the file with what
    differs from that, which is written to ``directory``."""
    known = source.provenance()
    path = directory / f"{name or 'git'}.diff"
    diff = source.diff() if known["git_clean"] is False else ""
    if diff:
        write_atomically(path, diff)
    else:
        path.unlink(missing_ok=True)  # of a run that was in this directory before
    return {**known, "git_diff": path.name if diff else None}


def record_sweep(
    directory: Path,
    cluster: str,
    overrides: Sequence[str],
    runs: Iterable[Mapping[str, Any]],
    submission: Mapping[str, Any] | None = None,
) -> None:
    """Put ``runs`` (number, overrides, job_id, log, ranks, submission) into the `sweep.json` of
    ``directory``, and the ``submission`` that some of them belong to.

    Args:
        cluster: where the jobs are: "slurm" or "local".
        overrides: those of the whole sweep.
    """
    sweep = read(directory / SWEEP)
    if not sweep:
        sweep = {"overrides": list(overrides), "start": now(), "submissions": [], "runs": []}
        _remember(directory)
    if submission:
        numbered = {each["submission"]: each for each in [*sweep["submissions"], submission]}
        sweep["submissions"] = list(numbered.values())
    by_number = {run["number"]: run for run in [*sweep["runs"], *runs]}  # a repeated run replaces
    sweep |= {"cluster": cluster, "host": socket.gethostname(), "runs": list(by_number.values())}
    write(directory / SWEEP, sweep)


def index() -> Path:
    """The user's list of sweeps: the directory of each on a line, the newest last."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "hpc-hydra", "sweeps")


def _remember(directory: Path) -> None:
    with suppress(OSError, RuntimeError):  # a home that is missing or full
        index().parent.mkdir(parents=True, exist_ok=True)
        with index().open("a") as file:
            file.write(f"{directory}\n")


def newest_sweep() -> Path | None:
    """The one that the user submitted last, of those that are still there."""
    try:
        directories = [Path(line) for line in index().read_text().splitlines()]
    except (OSError, RuntimeError):
        return None
    return next((each for each in reversed(directories) if (each / SWEEP).exists()), None)


def refuse_foreign(*paths: Path) -> None:
    """Raises:
    LauncherError: one of ``paths``, which need not exist, belongs to somebody else.
    """
    for path in paths:
        if path.exists() and (owner := foreign_owner(path.stat())):
            raise LauncherError(
                f"{path} belongs to {owner}: choose another hydra.sweep.dir=. What became of the runs of "
                f"a sweep there, tells\n    hpc status {shlex.quote(str(paths[0]))}"
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
    if known == "STOPPED" and state != "FAILED":
        reason = f"{reason}, after {record['error']}"
    end = {"overrides": list(overrides), "job_id": job_id, "state": state, "end": now()}
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / RUN, {**record, **(origin or {}), **end, "result": None, "error": reason})


def explain(directory: Path, end: str) -> None:
    """Add to the error in `run.json` how Slurm says that the job ended."""
    record = read(directory / RUN)
    state = state_of(end) if record.get("state") != "COMPLETED" else "COMPLETED"
    write(directory / RUN, {**record, "state": state, "error": f"{end}: {record.get('error')}"})


def state_of(end: str) -> str:
    """The state of a run whose job ended like this, in Slurm's words and perhaps some more."""
    word = end.partition(" ")[0].rstrip(":;,")
    return word if word in ("CANCELLED", "TIMEOUT") else "FAILED"


def _end_of_job(directory: Path, run: Mapping[str, Any]) -> str:
    """What the job script says, if the job ended before its runs; blank if it does not."""
    if not run["log"]:
        return ""
    try:
        log_file = Path(directory, run["log"])
        return log_file.with_name(f"{run['job_id']}_ended").read_text().strip()
    except OSError:
        return ""


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
    going_on = []
    for run in runs:
        if run["state"] not in ("PENDING", "RUNNING", "STOPPED"):
            continue
        if end := _end_of_job(directory, run):
            run |= {"state": state_of(end), "error": end}
        else:
            going_on.append(run)
    if sweep["cluster"] == "slurm" and going_on:
        owner = (directory / SWEEP).stat()
        queue = squeue.states(owner.st_uid)
        if queue is None or (not queue and foreign_owner(owner)):  # a site may hide others' jobs
            return runs
        for run in going_on:
            if squeue.is_over(word := queue.get(run["job_id"])):
                known = state_of(word or "")
                run |= {"state": "LOST" if known == "FAILED" else known, "error": word}
    return runs
