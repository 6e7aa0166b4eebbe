import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc_hydra import _squeue as squeue
from hpc_hydra._job.submission import Run, write_result
from hpc_hydra._launch import waiting
from hpc_hydra._launch.waiting import Queue, View, Watch, wait


def queue(ends: Callable[[], dict[str, str]] = dict) -> Any:
    """One that knows no more than this."""
    return SimpleNamespace(ends=ends, pending_at=lambda job_id: 0, stuck={})


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("35072", "exit code 137"),
        ("137:0", "exit code 137"),
        ("9", "signal 9"),
        ("0:9", "signal 9"),
    ],
)
def test_slurms_before_and_since_tell_how_a_job_failed(
    status: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22.05 prints the status of wait(2), 24.11 code and signal."""
    row = f"{'7_0':30}{'FAILED':20}{status:10}NonZeroExitCode"
    monkeypatch.setattr(squeue, "ask", lambda *_: row)
    assert squeue.states_and_reasons() == {"7_0": (f"FAILED with {says}", "NonZeroExitCode")}


def test_a_run_whose_job_ends_between_two_looks_is_not_given_up(tmp_path: Path) -> None:
    def ends() -> dict[str, str]:
        write_result(tmp_path, 0, 0)
        return {"1": "its process has ended"}

    def give_up(run: Run, reason: str) -> None:
        raise AssertionError(reason)

    watch = Watch([Run(0, [], "1", "1_0_log.out")], tmp_path, queue(ends))
    with View(1) as view:
        wait(watch, view, give_up)
    assert watch.results and not watch.failures


def test_a_rank_that_failed_says_why_though_srun_has_killed_the_others(tmp_path: Path) -> None:
    write_result(tmp_path, 0, 1, error="Traceback\nValueError: the cause")
    (tmp_path / "1_0_0_log.out").write_text("srun: Force Terminated StepId=1.0\n")
    run = Run(0, [], "1_0", "jobs/1_0_0_log.out", ranks=2)
    watch = Watch([run], tmp_path, queue(lambda: {"1_0": "FAILED with exit code 137"}))
    with View(1) as view:
        wait(watch, view, lambda run, reason: None)
    assert watch.failures == ["run 0 failed: ValueError: the cause, log: jobs/1_0_1_log.out"]


def test_a_job_whose_end_is_told_in_another_encoding(tmp_path: Path) -> None:
    """That of a site's messages; a job script writes the last one of its log into a file."""
    (tmp_path / "1_0_ended").write_bytes(b"python does not start: Datei nicht gefunden: f\xfcr\n")
    watch = Watch([Run(0, [], "1_0", "1_0_0_log.out")], tmp_path, queue())
    watch.look()
    assert watch.ended[0].startswith("python does not start: Datei nicht gefunden: f")


def test_of_a_large_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "1_0_0_log.out"
    with log.open("wb") as file:
        file.truncate(2**40)  # which takes no room on the disk
        file.seek(0, 2)
        file.write(b"\nCUDA out of memory\n")
    watch = Watch([Run(0, [], "1_0", log.name)], tmp_path, queue())
    assert watch.explained(watch.open[0], "FAILED").endswith(
        "its log ends with: CUDA out of memory"
    )


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
    watch = Watch([Run(0, [], "1", "1_0_log.out")], tmp_path, queue())
    with View(1) as view:
        wait(watch, view, lambda run, reason: None)
    assert pauses == [10] and watch.results


def test_a_job_that_will_not_begin_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else somebody would wait for it, for ever; of others' jobs and of usual reasons nothing is said."""
    told = {
        "1_0": ("PENDING", "DependencyNeverSatisfied"), "1_1": ("PENDING", "DependencyNeverSatisfied"),
        "1_2": ("PENDING", "Priority"), "2_0": ("PENDING", "JobHeldUser"),
        "1_3": ("PENDING", "PartitionConfig"),  # of more CPUs or nodes than there are
    }  # fmt: skip
    queue = Queue([f"1_{number}" for number in range(4)], lambda: told, -1, "gone")
    watch = Watch([Run(number, [], f"1_{number}", "none") for number in range(4)], tmp_path, queue)
    with View(4) as view:
        for _ in range(2):
            queue.ends()
            view.show(watch)
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said == [
        "as things are, 2 jobs will not begin: DependencyNeverSatisfied",
        "as things are, 1 jobs will not begin: PartitionConfig",
    ]
