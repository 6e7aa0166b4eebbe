"""What Slurm and the records say of jobs."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from running import Project, run

OVER = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED", "NODE_FAIL"}


def record(path: Path) -> Any:
    """A `run.json` or `sweep.json`; empty if it is not there yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def job_of(sweep: Path) -> str:
    """Id of the job, or of the array, that a sweep was submitted as; blank before."""
    runs = record(sweep / "sweep.json").get("runs")
    return str(runs[0]["job_id"] or "").partition("_")[0] if runs else ""


def slurm(project: Project, *command: str) -> str:
    """What a command of Slurm prints."""
    done = run(*command, cwd=project.path, user=project.user, **project.variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accounting(project: Project, job: str, elements: int = 1) -> list[dict[str, str]]:
    """What sacct says of each element of a job array, once it knows the end of all: it hears of them one
    after another."""
    names = ["JobID", "JobName", "State", "Partition", "Account", "QOS", "AllocTRES", "Timelimit"]
    rows: list[dict[str, str]] = []

    def over() -> bool:
        nonlocal rows
        query = ("--allocations", "--parsable2", "--noheader", f"--format={','.join(names)}")
        lines = slurm(project, "sacct", *query, f"--jobs={job}").splitlines()
        rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines]
        # The database may hear of a job's end before it hears of its partition and limit.
        return len(rows) >= elements and all(
            row["State"].split()[0] in OVER and row["Partition"] and row["Timelimit"]
            for row in rows
        )

    wait_until(over)
    return rows


def job_script(project: Project, job: str) -> str:
    """The batch script as Slurm has it."""
    return slurm(project, "scontrol", "write", "batch_script", job, "-")


def supervisors_of(sweep: Path) -> dict[str, int]:
    """The process of each job, by its id, that watches the runs; of its first rank."""
    processes = processes_of(sweep)
    found = {}
    for process in processes:
        if processes[process] not in processes:
            try:
                environment = Path(f"/proc/{process}/environ").read_text(errors="replace")
            except OSError:  # it has just ended
                continue
            variables = dict(each.split("=", 1) for each in environment.split("\0") if "=" in each)
            if variables.get("SLURM_PROCID") == "0":
                job = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
                found[job] = process
    return found


def runs_of(sweep: Path) -> list[int]:
    """The processes of a sweep's runs, which their supervisors have forked."""
    processes = processes_of(sweep)
    return [process for process, parent in processes.items() if parent in processes]


def processes_of(sweep: Path) -> dict[int, int]:
    """Those of the jobs' Python, with their parents."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_text(errors="replace").split("\0")
            if (
                any(word.startswith(f"{sweep}/jobs/submission_") for word in words)
                and "srun" not in words
            ):
                parent = (
                    (path.parent / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                )
                found[int(path.parent.name)] = int(parent)
    return found


def wait_until(
    condition: Callable[[], object],
    process: "subprocess.Popen[str] | None" = None,
    seconds: float = 120,
) -> None:
    """Until ``condition`` holds, as long as ``process`` lives, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process and process.poll() is not None:
            raise AssertionError(f"ended early:\n{process.communicate()[0]}")
        assert time.monotonic() < deadline, f"{seconds:.0f} seconds have passed"
        time.sleep(0.2)
