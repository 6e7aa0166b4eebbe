"""What the jobs of a submission read of its file."""

import json
from dataclasses import asdict
from pathlib import Path

from hpc_hydra._job.submission import Work

JOBS = [[(0, ["lr=1"]), (1, ["lr=2"])], [(4, ["lr='a\nb'"])]]


def work() -> Work:
    return Work(
        sweep_dir="/sweep", shared=True, use_srun=True, ranks=2, timeout_min=60,
        signal_delay_s=120, origin={"submission": 0}, source=None,
    )  # fmt: skip


def test_a_job_reads_what_it_has_to_do(tmp_path: Path) -> None:
    path = tmp_path / "submission_0.pkl"
    work().write(path, b"pickled\n\n", iter(JOBS))
    for job, todos in enumerate(JOBS):
        read, common, own = Work.of_job(path, job)
        assert [tuple(each) for each in own] == todos
        assert common == b"pickled\n\n"
        assert read.sweep_dir == "/sweep" and read.ranks == 2
    assert Work.numbers(path, 0, 2)[1] == [[0, 1], [4]]
    assert Work.numbers(path, 1, 2)[1] == [[4]]


def test_so_does_one_that_the_version_before_has_queued(tmp_path: Path) -> None:
    """hpc-hydra may be upgraded while jobs wait."""
    path = tmp_path / "submission_0.pkl"
    old = {**asdict(work()), "jobs": JOBS, "format": 1}
    del old["common"]
    path.write_bytes(json.dumps(old).encode() + b"\npickled\n\n")
    read, common, own = Work.of_job(path, 1)
    assert [tuple(each) for each in own] == JOBS[1]
    assert (read.sweep_dir, common) == ("/sweep", b"pickled\n\n")
    assert Work.numbers(path, 0, 1)[1] == [[0, 1]]
