from pathlib import Path

from hpc_hydra._job.submission import Run, write_result
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
