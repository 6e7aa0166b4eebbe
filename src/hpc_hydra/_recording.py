"""What a Hydra app records of its runs and sweeps, and what of them it refuses."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from . import _attempt as attempt
from . import _metrics as metrics
from . import _records as records
from . import _resources as resources
from . import _signals as signals
from ._files import foreign_owner, write_atomically
from ._hydra import value_of
from ._overrides import directory_override, refuse_misfits, typed_overrides
from ._ranks import by_torchrun, rank
from ._source import Source

log = logging.getLogger(__name__)


class LauncherError(CompactHydraException):
    """The runs of a sweep cannot be launched; the message says what to do."""


class RunFailed(LauncherError):
    """A run of a sweep did not complete."""


class RecordCallback(Callback):
    """Keeps `run.json` up to date, and gives each run or sweep a directory of its own.

    States: RUNNING, COMPLETED, FAILED, and STOPPED for a run that a signal ended before its time;
    a requeued one is RUNNING again once Slurm starts it. One that does not go on becomes CANCELLED,
    OUT_OF_MEMORY or TIMEOUT.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing("hydra.run.dir"):
            refuse_misfits(typed_overrides(config), config)
            _take_directory(config, "hydra.run.dir").mkdir(parents=True, exist_ok=True)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing("hydra.sweep.dir"):
            directory = _take_directory(config, "hydra.sweep.dir")
            OmegaConf.to_container(config.hydra.launcher, resolve=True)
            refuse_foreign(directory, directory / records.SWEEP)
            may_change = config.hydra.launcher.get("may_change") or ()
            sweep = records.read_sweep(directory)
            refuse_another_sweep(directory, sweep, typed_overrides(config), (), may_change)
        pin_sweep(config, directory)

    def on_job_start(self, config: DictConfig, task_function: Any = None, **kwargs: Any) -> None:
        self.directory = metrics.directory = Path(config.hydra.runtime.output_dir)
        if records.origin and config.hydra.mode is RunMode.MULTIRUN and rank() == 0:
            by_number = Path(config.hydra.sweep.dir, str(config.hydra.job.num))
            if by_number != self.directory:
                _find_by_number(self.directory, by_number)
        before = records.read(self.directory / records.RUN)
        signals.raised_before = before.get("state") == "STOPPED" and ", then " in before["error"]
        if rank() > 0:
            return
        self._began, self._cpu_s = time.monotonic(), resources.used_here(0)["cpu_s"]
        job_id = OmegaConf.select(config, "hydra.job.id")
        where = {"job_id": job_id, "host": socket.gethostname()}
        attempts = [*before.get("attempts", []), {**where, "start": records.now()}]
        origin = records.origin or submission_record(Source(task_function), self.directory, "git")
        self.record = {
            "state": "RUNNING",
            "overrides": typed_overrides(config),
            **where,
            "python": sys.executable,
            "start": before.get("start", records.now()),
            "end": None,
            "restarts": before.get("restarts", -1) + 1,
            **({"before": before["before"]} if "before" in before else {}),
            "result": None,
            "error": None,
            "asked": resources.asked(),
            "attempts": attempts,
            **origin,
        }
        signals.before_hand_over.append(self._on_stop)
        if "SUBMITIT_EXECUTOR" not in os.environ:  # there a supervisor tells, or it is requeued
            atexit.register(self._on_exit, os.getpid())
        if not self._other_rank_has_failed(before):
            self._write()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        metrics.directory = None
        self._write_metrics()
        if rank() > 0 or self._on_stop not in signals.before_hand_over:
            return
        signals.before_hand_over.remove(self._on_stop)
        value = value_of(job_return)
        if self._other_rank_has_failed(records.read(self.directory / records.RUN)):
            return
        if job_return.status is JobStatus.COMPLETED:
            self._write(state="COMPLETED", end=records.now(), result=records.of_json(value))
            result = records.one_line(str(self.record["result"]))
            log.info("completed with result %s, outputs in %s", result, self.directory)
        else:
            error = "".join(traceback.format_exception(type(value), value, value.__traceback__))
            self._write(state="FAILED", end=records.now(), error=error)

    def _other_rank_has_failed(self, there: Mapping[str, Any]) -> bool:
        """Whether one was quicker to write the record that is ``there``, in this attempt."""
        failed = there.get("failed", {}).get("attempt")
        return bool(there.get("job_id") == self.record["job_id"] and failed == attempt.number())

    def _on_stop(self, reason: str) -> None:
        self._write_metrics()
        # Else it may be stopped since that rank has failed.
        if not self._other_rank_has_failed(records.read(self.directory / records.RUN)):
            self._write(state="STOPPED", end=records.now(), error=reason)
        signals.before_hand_over.remove(self._on_stop)

    def _on_exit(self, process: int) -> None:
        """Of Ctrl-C, and of an exit in the task, Hydra tells no callback."""
        if self._on_stop in signals.before_hand_over and os.getpid() == process:
            signals.before_hand_over.remove(self._on_stop)
            error = "the command ended before the task had returned"
            self._write(state="FAILED", end=records.now(), error=error)

    def _write_metrics(self) -> None:
        with suppress(OSError):  # of which there was a warning
            metrics.write_kept(self.directory)

    def _write(self, **changes: Any) -> None:
        attempt.hold()
        self.record.update(changes)
        if "end" in changes:
            used = resources.used_here(time.monotonic() - self._began)
            used["cpu_s"] = round(used["cpu_s"] - self._cpu_s, 1)
            records.end_attempt(self.record, changes["state"], used)
        self.directory.mkdir(parents=True, exist_ok=True)  # if the task has removed it
        path = self.directory / records.RUN
        # Of a run that has just begun for the first time nothing is lost with its record.
        records.write(path, self.record, durable="end" in changes or path.exists())


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
    except (HydraException, records.DamagedRecord) as error:
        sys.exit(str(error))


def _take_directory(config: DictConfig, key: str) -> Path:
    """The directory that ``config`` has at ``key``, and from now on has as it is: a new one unless it was chosen."""
    directory = Path(OmegaConf.select(config, key)).absolute()
    chosen = any(records.key_of(each) == key for each in typed_overrides(config, "hydra"))
    if by_torchrun() and (
        key == "hydra.sweep.dir" or (not chosen and int(os.environ["WORLD_SIZE"]) > 1)
    ):
        raise LauncherError(
            "torchrun starts this command once per rank, and each would have a sweep or a directory of its own: leave "
            "torchrun out, the launcher starts the ranks, with hydra.launcher.tasks_per_node=2, say; or, for one run, "
            "name its directory, as in hydra.run.dir=outputs/try"
        )
    directory = directory if chosen else records.claim(directory)
    with read_write(config.hydra):  # Hydra 1.4 locks it before
        OmegaConf.update(config, key, str(directory))
    return directory


def pin_sweep(config: DictConfig, directory: Path) -> None:
    """Let the jobs, which compose their config anew from overrides, write to ``directory``, and nowhere else."""
    override = directory_override("hydra.sweep.dir", directory)
    if override not in typed_overrides(config, "hydra"):
        with open_dict(config), read_write(config.hydra):
            config.hydra.overrides.hydra.append(override)


def _find_by_number(directory: Path, by_number: Path) -> None:
    """Let a run with a `hydra.sweep.subdir` of its own be found by its number too: a link leads to its ``directory``."""
    with suppress(OSError):  # then it cannot be found
        if by_number.is_symlink():  # to where it was before, perhaps with other values
            by_number.unlink()
        elif by_number.exists() and [*by_number.iterdir()] == [by_number / records.RUN]:
            # It could not even begin before.
            (by_number / records.RUN).replace(directory / records.RUN)
            by_number.rmdir()
        by_number.symlink_to(os.path.relpath(directory, by_number.parent))


def submission_record(source: Source, directory: Path, name: str) -> dict[str, Any]:
    """The code of a run, or of a sweep's submission: the names of its commit and of the file with what
    differs from that, which is written to ``directory``."""
    known = source.provenance()
    path = directory / f"{name}.diff"
    diff = source.diff() if known["git_clean"] is False else ""
    if diff:
        write_atomically(path, diff)
    else:
        path.unlink(missing_ok=True)  # of a run that was in this directory before
    return {**known, "git_diff": path.name if diff else None}


def refuse_foreign(*paths: Path) -> None:
    """Raises:
    LauncherError: one of ``paths``, which need not exist, belongs to somebody else.
    """
    for path in paths:
        if path.exists() and (owner := foreign_owner(path.stat())):
            raise LauncherError(
                f"{path} belongs to {owner}: choose another hydra.sweep.dir=. To see the "
                f"runs of a sweep there:\n    hpc status {shlex.quote(str(paths[0]))}"
            )


def _about(parameter: str, overrides: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in overrides if records.key_of(each) == parameter)


def refuse_another_sweep(
    directory: Path,
    sweep: Mapping[str, Any],
    overrides: Sequence[str],
    runs: Iterable[Mapping[str, Any]],
    may_change: Sequence[str],
) -> None:
    """What is about a parameter that ``may_change`` makes no difference, if all runs have it alike.

    Raises:
    LauncherError: ``directory`` has a ``sweep`` of other ``overrides``, or whose ``runs`` have.
    """
    if not sweep:
        return
    recorded = {run["number"]: run["overrides"] for run in sweep["runs"]}
    runs = list(runs)
    for parameter in may_change:
        here = {_about(parameter, run["overrides"]) for run in runs}
        there = {_about(parameter, own) for own in recorded.values()}
        # Of a sweep in batches the runs of the first ones may have changed already, by this command.
        if len(here) > 1 or (len(there) > 1 and sweep["overrides"] != list(overrides)):
            raise LauncherError(
                f"{parameter} varies within the sweep in {directory}, so it cannot change: choose "
                "another hydra.sweep.dir="
            )
    pairs = [(sweep["overrides"], list(overrides))]
    pairs += [(recorded.get(run["number"], run["overrides"]), run["overrides"]) for run in runs]
    for before, now in pairs:
        alike = [[o for o in own if records.key_of(o) not in may_change] for own in (before, now)]
        if alike[0] != alike[1]:
            raise LauncherError(
                f"{directory} has a sweep of other overrides:\n    there {' '.join(before)}\n"
                f"    here  {' '.join(now)}\nTo go on with it, type the same overrides (hydra.* may "
                "differ; in place of another preset hydra/launcher=NAME), or choose another hydra.sweep.dir=. To "
                "change a parameter of all its runs: "
                f"hpc retry {shlex.quote(str(directory))} NAME=VALUE"
            )
