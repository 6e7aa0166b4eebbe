import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc_hydra._job.submission import Run, write_result
from hpc_hydra._launch import waiting
from hpc_hydra._launch.waiting import View, Watch, wait


def test_a_run_whose_job_ends_between_two_looks_is_not_given_up(tmp_path: Path) -> None:
    def end_of(job_id: str) -> str:
        write_result(tmp_path, 0, 0)
        return "its process has ended"

    def give_up(run: Run, reason: str) -> None:
        raise AssertionError(reason)

    watch = Watch([Run(0, [], "1", "1_0_log.out")], tmp_path)
    with View(1) as view:
        wait(watch, view, end_of, give_up)
    assert watch.results and not watch.failures


def test_a_look_that_took_long_is_not_waited_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first look at a sweep with hundreds of failures does: a single run of it is retried."""
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        write_result(tmp_path, 0, 0)

    work = iter((0.0, 5.0, 5.0))  # seconds
    clocks = {"process_time": work.__next__, "monotonic": time.monotonic}
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, **clocks))
    watch = Watch([Run(0, [], "1", "1_0_log.out")], tmp_path)
    with View(1) as view:
        wait(watch, view, lambda job_id: None, lambda run, reason: None)
    assert pauses == [10] and watch.results
