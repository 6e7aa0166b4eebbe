"""Records: what became of every run, in files that people and programs can read without Slurm.

`run.json` in each run's directory, `sweep.json` in the sweep's. Both are written atomically.

    python -m {{ cookiecutter.__package }}.hpc.runs [DIR]

prints the table of the sweep in DIR, by default of the newest one.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from . import signals
from .files import write_atomically
from .paths import REPOSITORY, hydra_path
from .ranks import rank

RUN, SWEEP = "run.json", "sweep.json"
PACKAGES = ("{{ cookiecutter.project_slug }}", "hydra-core", "hydra-zen", "hydra-submitit-launcher", "submitit", "wandb", "scikit-learn", "numpy")  # fmt: skip
COLORS = {"COMPLETED": "green", "FAILED": "red", "STOPPED": "yellow", "RUNNING": "cyan"}


class RecordCallback(Callback):
    """Keeps `run.json` up to date, and gives each run or sweep a directory of its own.

    States: RUNNING, COMPLETED, FAILED, and STOPPED for a run that a signal ended before its time;
    a requeued one is RUNNING again once Slurm starts it.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if not _is_chosen(config, "hydra.run.dir"):
            config.hydra.run.dir = str(claim(Path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        directory = Path(config.hydra.sweep.dir).absolute()
        if not _is_chosen(config, "hydra.sweep.dir"):
            directory = claim(directory)
        config.hydra.sweep.dir = str(directory)
        # Jobs compose their config anew, from these overrides.
        quoted = str(directory).replace("\\", "\\\\").replace("'", "\\'")
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")

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
        else:
            error = "".join(traceback.format_exception(type(value), value, value.__traceback__))
            self._write(state="FAILED", end=now(), error=error)

    def _on_stop(self, reason: str) -> None:
        self._write(state="STOPPED", end=now(), error=reason)

    def _write(self, **changes: Any) -> None:
        self.record.update(changes)
        write(self.directory / RUN, self.record)


def _is_chosen(config: DictConfig, key: str) -> bool:
    return any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)


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


def record_sweep(directory: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Put ``runs`` (each with number, overrides, job_id and log) into the `sweep.json` of ``directory``."""
    sweep = read(directory / SWEEP) or {
        "command": shlex.join(sys.orig_argv),
        "start": now(),
        **_git(),
        "versions": _versions(),
        "runs": [],
    }
    numbered = {run["number"]: run for run in [*sweep["runs"], *runs]}  # a repeated run replaces
    sweep["runs"] = list(numbered.values())
    write(directory / SWEEP, sweep)


def record_failure(directory: Path, overrides: Sequence[str], job_id: str, reason: str) -> None:
    """Note in `run.json` that a run failed which could not do so itself."""
    record = read(directory / RUN)
    if record.get("state") != "FAILED":
        directory.mkdir(parents=True, exist_ok=True)
        failure = {"state": "FAILED", "end": now(), "error": reason}
        write(directory / RUN, {"overrides": overrides, "job_id": job_id, **record, **failure})


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
    """What is known of each run of the sweep in ``directory``, PENDING where it has not begun."""
    runs = read(directory / SWEEP).get("runs", [])
    if runs:
        pending = {"state": "PENDING"}
        return [{**pending, **run, **read(directory / str(run["number"]) / RUN)} for run in runs]
    # The sweep of a launcher that writes no sweep.json, or a single run.
    paths = [directory / RUN, *sorted(directory.glob(f"*/{RUN}"))]
    return [{"number": path.parent.name, **read(path)} for path in paths if path.exists()]


def shown(overrides: Sequence[str]) -> str:
    """Overrides without Hydra's own and the preset."""
    own = filter_overrides(overrides)
    return " ".join(override for override in own if not override.startswith("+setup="))


def print_table(directory: Path) -> None:
    """Print a line for each run of the sweep in ``directory``, and the logs of those that failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    runs = states(directory)
    table = Table("run", "job", "overrides", "state", "restarts", "result")
    for run in runs:
        result = run.get("result")
        table.add_row(
            str(run["number"]),
            run.get("job_id") or "",
            Text(shown(run.get("overrides", []))),
            Text(run["state"], style=COLORS.get(run["state"], "")),
            str(run.get("restarts", "")),
            Text(f"{result:.4g}" if isinstance(result, float) else str(result or "")),
        )
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    for run in runs:
        if run["state"] == "FAILED":
            last_line = (run.get("error") or "").strip().rpartition("\n")[2]
            log = directory / run.get("log", str(run["number"]))
            print(f"run {run['number']} failed: {last_line}\n    log: {log}")
    print(f"outputs: {directory}")


def main() -> None:
    """Print the table of a sweep."""
    parser = argparse.ArgumentParser(description="Print the table of a sweep.")
    parser.add_argument("directory", nargs="?", type=Path, help="default: the newest sweep")
    directory = parser.parse_args().directory
    if directory is None:
        from ..cluster import OUTPUT_DIR

        base = Path(OmegaConf.create([hydra_path(OUTPUT_DIR)])[0])
        sweeps = base.glob(f"*/*/{SWEEP}")
        directory = max((path.parent for path in sweeps), key=os.path.getmtime, default=base)
    if not states(directory):
        sys.exit(f"no runs in {directory}")
    print_table(directory)


if __name__ == "__main__":
    main()
