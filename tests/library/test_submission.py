"""What the jobs of a submission read of its file."""

from pathlib import Path

from hpc_hydra._job.submission import Work

JOBS = [[(0, ["lr=1"]), (1, ["lr=2"])], [(4, ["lr='a\nb'"])]]


def work() -> Work:
    return Work(
        sweep_dir="/sweep", shared=True, ranks=2, timeout_min=60,
        signal_delay_s=120, origin={"submission": 0}, source=None,
    )  # fmt: skip


def test_a_job_reads_what_it_has_to_do(tmp_path: Path) -> None:
    path = tmp_path / "submission_0.pkl"
    work().write(path, b"pickled\n\n", iter(JOBS))
    for first, end in ((0, 1), (1, 2), (0, 2)):
        read, common, jobs = Work.read(path, first, end)
        assert [[tuple(each) for each in job] for job in jobs] == JOBS[first:end]
        assert common == b"pickled\n\n"
        assert read.sweep_dir == "/sweep" and read.ranks == 2
