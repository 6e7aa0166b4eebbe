"""Sweeps as they lie on the disk, without the time that it takes to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpc_hydra import _records as records
from hpc_hydra import log_metrics


def made(
    directory: Path,
    overrides: Sequence[str],
    results: Sequence[Any],
    metrics: Mapping[int, Sequence[Mapping[str, float]]] | None = None,
    **record: Any,
) -> Path:
    """A sweep in ``directory`` whose runs have these ``overrides``, each several, and ``results``: an
    exception is that of a failed run.

    Args:
        metrics: of runs, by number, what each step logged.
        record: what else the records of all runs have.
    """
    runs = [
        {"number": number, "overrides": own.split(), "job_id": f"7_{number}", "log": f"jobs/7_{number}.out"}
        for number, own in enumerate(overrides)
    ]  # fmt: skip
    (directory / "jobs").mkdir(parents=True)
    submission = {
        "submission": 0, "command": "python -m app lr=0.1,0.01", "git_commit": "c0ffee" * 6 + "beef",
        "git_clean": True, "git_diff": None, "versions": {"python": "3.11.7", "hydra-core": "1.3.8"},
    }  # fmt: skip
    records.record_sweep(directory, "local", ["lr=0.1,0.01"], runs, submission)
    for number, (run, result) in enumerate(zip(runs, results, strict=True)):
        own = directory / str(number)
        own.mkdir()
        failed = isinstance(result, Exception)
        if failed:
            (directory / str(run["log"])).write_text(f"Traceback\n{result!r}\n")
        ended = {
            "state": "FAILED" if failed else "COMPLETED", "restarts": 0,
            "start": "2026-01-31T10:00:00+00:00",
            "end": f"2026-01-31T10:{(10 + number) // 60:02}:{(10 + number) % 60:02}+00:00",
            "result": None if failed else result,
            "error": f"Traceback\n{result!r}" if failed else None,
        }  # fmt: skip
        records.write(own / records.RUN, {**run, **ended, **record})
        for step, values in enumerate((metrics or {}).get(number, ()), 1):
            log_metrics(values, step, own)
    return directory
