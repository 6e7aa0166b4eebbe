"""Records: what became of every run, in files that people and programs can read without Slurm.

`run.json` in each run's directory, `sweep.json` in the sweep's. Both are written atomically.

    python -m {{ cookiecutter.__package }}.hpc.runs [DIR]

prints the table of the sweep in DIR, by default of the newest one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import platform
import re
import shlex
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from . import signals, squeue
from .files import write_atomically
from .paths import REPOSITORY, absolute
from .ranks import rank

log = logging.getLogger(__name__)

RUN, SWEEP = "run.json", "sweep.json"
PACKAGES = (
    "hydra-core", "hydra-submitit-launcher", "hydra-zen", "numpy", "scikit-learn", "submitit",
    "wandb",
)  # fmt: skip
COLORS = {
    "COMPLETED": "green", "FAILED": "red", "LOST": "red", "RUNNING": "cyan", "STOPPED": "yellow",
}  # fmt: skip


class RecordCallback(Callback):
    """Keeps `run.json` up to date, and gives each run or sweep a directory of its own.

    States: RUNNING, COMPLETED, FAILED, and STOPPED for a run that a signal ended before its time;
    a requeued one is RUNNING again once Slurm starts it.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            config.hydra.run.dir = str(_directory(config, "hydra.run.dir"))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            directory = _directory(config, "hydra.sweep.dir")
            config.hydra.sweep.dir = str(directory)
            OmegaConf.to_container(config.hydra.launcher, resolve=True)
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
            "overrides": list(config.hydra.overrides.task),
            "job_id": OmegaConf.select(config, "hydra.job.id"),
            "host": socket.gethostname(),
            "start": before.get("start", now()),
            "end": None,
            "restarts": before.get("restarts", -1) + 1,
            "result": None,
            "error": None,
        }
        self._write()
        signals.before_hand_over.append(self._on_stop)

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
    """End the command with one line where a run has no place to be, or its job no environment."""
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
    same second share none."""
    number = 1
    while True:
        candidate = directory if number == 1 else directory.with_name(f"{directory.name}_{number}")
        try:
            candidate.parent.mkdir(parents=True, exist_ok=True)
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1


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


def record_sweep(directory: Path, cluster: str, runs: Iterable[Mapping[str, Any]]) -> None:
    """Put ``runs`` (number, overrides, job_id, log) into the `sweep.json` of ``directory``.

    Args:
        cluster: where the jobs are: "slurm" or "local".
    """
    sweep = read(directory / SWEEP) or {
        "command": shlex.join(sys.orig_argv),
        "start": now(),
        **_git(),
        "versions": _versions(),
        "runs": [],
    }
    numbered = {run["number"]: run for run in [*sweep["runs"], *runs]}  # a repeated run replaces
    sweep.update(cluster=cluster, runs=list(numbered.values()))
    write(directory / SWEEP, sweep)


def record_end(directory: Path, overrides: Sequence[str], job_id: str, reason: str) -> None:
    """Note in `run.json` why a run ended that could not do so itself."""
    record = read(directory / RUN)
    if record.get("state") == "FAILED":
        return
    end = {"state": "FAILED", "end": now(), "error": reason}
    if record.get("state") == "STOPPED":
        end = {"error": f"{record['error']}; Slurm did not requeue the job"}
    directory.mkdir(parents=True, exist_ok=True)
    write(directory / RUN, {"overrides": overrides, "job_id": job_id, **record, **end})


def _git() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", "-C", str(REPOSITORY), *arguments],
                capture_output=True, text=True, check=True, timeout=30,
            ).stdout.strip()  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None

    status = git("status", "--porcelain")
    return {
        "git_commit": git("rev-parse", "HEAD"),
        "git_clean": None if status is None else not status,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def states(directory: Path) -> list[dict[str, Any]]:
    """What is known of each run of the sweep in ``directory``.

    Beside the states in `run.json`: NOT SUBMITTED; PENDING, not begun; LOST, still to do something
    by its record, but no longer in Slurm's queue: killed, or cancelled before it began.
    """
    sweep = read(directory / SWEEP)
    if not sweep:  # of a launcher that writes none, or a single run
        paths = [directory / RUN, *directory.glob(f"[0-9]*/{RUN}")]
        return [{"number": path.parent.name, **read(path)} for path in paths if path.exists()]
    runs = []
    for run in sweep["runs"]:
        state = {"state": "PENDING" if run["job_id"] else "NOT SUBMITTED"}
        runs.append({**state, **run, **read(directory / str(run["number"]) / RUN)})
    going_on = [run for run in runs if run["state"] in ("PENDING", "RUNNING")]
    if sweep["cluster"] == "slurm" and going_on and (queue := squeue.states()) is not None:
        for run in going_on:
            if run["job_id"] not in queue:
                run["state"] = "LOST"
    return runs


def shown(overrides: Sequence[str]) -> str:
    """Overrides without Hydra's own and the preset."""
    own = filter_overrides(overrides)
    return " ".join(override for override in own if not override.startswith("+setup="))


def print_table(directory: Path) -> None:
    """Print a line for each run of the sweep in ``directory``, and the logs of those that failed."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runs = states(directory)
    columns = ("run", "job", "overrides", "state", "restarts", "result")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for run in runs:
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
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    for run in runs:
        if run["state"] in ("FAILED", "STOPPED", "LOST"):
            last_line = (run.get("error") or "").strip().rpartition("\n")[2]
            log_file = directory / (run.get("log") or str(run["number"]))
            print(f"run {run['number']} {run['state'].lower()}: {last_line}\n    log: {log_file}")
    print(f"outputs: {directory}")


def main() -> None:
    """Print the table of a sweep."""
    parser = argparse.ArgumentParser(description="Print the table of a sweep.")
    parser.add_argument("directory", nargs="?", type=Path, help="default: the newest sweep")
    directory = parser.parse_args().directory
    if directory is None:
        from ..cluster import OUTPUT_DIR

        with _refusing():
            base = Path(OmegaConf.create([absolute(OUTPUT_DIR)])[0])
        directory = max(base.glob(f"*/*/{SWEEP}"), default=base / SWEEP).parent
    if not states(directory):
        sys.exit(f"no runs in {directory}")
    print_table(directory)


if __name__ == "__main__":
    main()
