"""What the launcher and its jobs tell each other: files in the sweep's folder of jobs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from .. import _attempt as attempt
from .._files import atomically, open_own, write_atomically
from .._hydra import value_of

CONFIGS = ("cfg", "hydra_cfg")  # of Hydra's JobReturn
Todos = list[tuple[int, list[str]]]  # numbers and overrides of runs


@dataclass
class Run:
    """A run of the sweep, as `sweep.json` has it."""

    number: int
    overrides: list[str]
    job_id: str | None = None
    log: str | None = None  # below the sweep's directory
    ranks: int = 1
    submission: int | None = None


@dataclass
class Work:
    """What the jobs of one submission have to do: the first line of its file, as JSON. What their runs have
    in common follows, pickled, and then a line for each job: the numbers and overrides of its runs."""

    sweep_dir: str
    shared: bool  # the ranks of a job share its runs; otherwise each run has all the ranks
    ranks: int  # of a job
    timeout_min: int
    signal_delay_s: int
    origin: dict[str, Any]  # of the records of its runs
    source: tuple[str, str] | None  # the folder with the app's code, and its copy
    process_per_run: bool = True
    roots: list[str] = field(default_factory=list)  # in the copy, from which modules are imported
    common: int = 0  # length in bytes
    format: int = 2

    def write(self, path: Path, common: bytes, jobs: Iterable[Todos]) -> None:
        """Write it, what its runs have in ``common``, pickled, and what each of the ``jobs`` has to do."""
        self.common = len(common)
        with atomically(path) as file:
            file.write(json.dumps(asdict(self)).encode() + b"\n" + common)
            for todos in jobs:
                file.write(json.dumps(todos).encode() + b"\n")

    @classmethod
    def read(cls, path: Path, first: int, end: int) -> tuple[Work, bytes, list[Todos]]:
        """What ``path`` has for jobs ``first`` to ``end``: read no further than that, since there may be thousands of
        them.

        Raises:
            PermissionError: it belongs to somebody else.
        """
        with open_own(path) as file:
            fields = json.loads(file.readline())  # of a version before, perhaps
            work = cls(**{name: fields[name] for name in fields.keys() & cls.__dataclass_fields__})
            common = file.read(work.common)
            return work, common, [json.loads(line) for line in islice(file, first, end)]


def log_of_rank(log: str, rank: int) -> str:
    """The log of another rank than the first one, whose ``log`` is that of a run alone in its job."""
    return f"{log.removesuffix('_0_log.out')}_{rank}_log.out"


def log_name(job_id: str, number: int, rank: int, alone: bool) -> str:
    """Of what a rank of run ``number`` prints: the log of its job, if the run is ``alone`` in that."""
    run = "" if alone else f"_run_{number}"
    return f"{job_id}{run}_{rank}_log.out"


def result_path(folder: Path, number: int, rank: int, completed: bool) -> Path:
    """Where a rank of run ``number`` puts its result when it is over."""
    return folder / f"run_{number}_{rank}_{'completed' if completed else 'failed'}.pkl"


def write_result(
    folder: Path, number: int, rank: int, returned: JobReturn | None = None, error: str = ""
) -> None:
    """Note that a run is over: what it ``returned``, or the ``error`` if it did not complete.

    Hydra's configs come last in the file, since they are large and seldom asked for.
    """
    light: dict[str, Any] = {"error": error}
    if returned is not None:
        light |= {name: getattr(returned, name) for name in ("working_dir", "task_name")}
        if not error:
            light["_return_value"] = value_of(returned)
    try:
        first = _pickled(light)
    except Exception:  # a generator, say: the record has its text, too
        first = _pickled({**light, "_return_value": str(light["_return_value"])})
    configs = (_pickled(getattr(returned, name, None)) for name in CONFIGS)
    path = result_path(folder, number, rank, completed=not error)
    attempt.hold()
    # The record of the run, which comes before, is durable and has the same.
    write_atomically(path, b"".join([first, *configs]), durable=False)
    result_path(folder, number, rank, completed=bool(error)).unlink(missing_ok=True)


def failed_first(paths: Sequence[Path]) -> Path | None:
    """Of the results of a run's ranks that of the first one to fail, by the file system's clock; the others may
    have failed for want of it."""
    failed = [path for path in paths if path.stem.endswith("_failed")]
    return min(failed, key=lambda path: path.stat().st_mtime_ns, default=None)


def _pickled(data: Any) -> bytes:
    try:
        return pickle.dumps(data)
    except Exception:  # what no module can be asked for, such as a class of the main one
        import cloudpickle  # slow

        pickled: bytes = cloudpickle.dumps(data)
        return pickled


def read_result(path: Path, part: int = 0) -> Any:
    """What `write_result` has written: at first the light ``part``, then the configs."""
    with open_own(path) as file:
        return [pickle.load(file) for _ in range(part + 1)][part]


class Result(JobReturn):
    """What Hydra gets of a run that is over; its configs are read when they are asked for."""

    def __init__(self, overrides: Sequence[str], paths: Sequence[Path]) -> None:
        """Of a run whose ranks wrote ``paths``, in the order of the ranks; without any, it did not complete.

        Raises:
            Exception: whatever unpickling raises.
        """
        super().__init__(overrides)
        self.paths = paths
        for path in paths[:1]:  # what it returned is what its first rank returned
            vars(self).update(read_result(path))
        completed = paths and not failed_first(paths)
        self.status = JobStatus.COMPLETED if completed else JobStatus.FAILED

    def __getattribute__(self, name: str) -> Any:
        if name in CONFIGS and self.paths:
            return read_result(self.paths[0], 1 + CONFIGS.index(name))
        return super().__getattribute__(name)

    @property  # type: ignore[misc]
    def return_value(self) -> Any:
        """What the run returned.

        Raises:
            Exception: it did not complete.
        """
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return self._return_value
