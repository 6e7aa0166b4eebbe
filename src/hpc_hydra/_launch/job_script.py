"""The script of a job, and its submission."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import _squeue as squeue
from .._paths import repository_of
from .._ranks import LOCAL
from .._source import Source
from .refusal import Refused

log = logging.getLogger(__name__)

# Of the job in which this process runs, as far as it is in one: no business of the jobs that it submits.
JOBS_OWN = re.compile(
    r"(SLURM_(?!CONF)|SRUN_|SUBMITIT_|PMIX?_|(CUDA|HIP|ROCR)_VISIBLE_DEVICES$|GPU_DEVICE)"
)

# What sbatch would follow rather than the script's line, by the name of that if it is another one.
VARIABLES = {
    "time": "TIMELIMIT",
    "mem": "MEM_PER_NODE",
    "requeue": "NO_REQUEUE",
    "no-requeue": "REQUEUE",
}
NEVER = {"SBATCH_WAIT", "SBATCH_ARRAY_INX"}

# What it prints of a job that Slurm has taken, among what a site adds to that; with --parsable the second.
TAKEN = re.compile(r"Submitted batch job (\d+)")
PARSABLE = re.compile(r"^(\d+)(?:;\S+)?$", re.MULTILINE)

# What sbatch says when its controller is down or busy; in the last two cases it may have taken the job, or take it yet.
AWAY = re.compile("Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted")
TRY_FOR_S = 600
ASK_EVERY_S = 5  # what the controller still has before it is visible then
# After the setup commands. srun would pass on nothing but what a site has the job export.
BEGIN = """\
test -d "$SLURM_SUBMIT_DIR" || refuse "the working directory is gone: $SLURM_SUBMIT_DIR"
unset SLURM_EXPORT_ENV
take_exit_trap
: > "$hpc_job"_starting || true
hpc_begun=yes
trap : TERM HUP USR1 USR2
test -z "${BASH_VERSION:-}" || trap - ERR"""


def text_of(options: Mapping[str, Any], first_line: str, setup: Sequence[str], command: str) -> str:
    """The text of one: ``options`` of sbatch, but for those that are None, and what the job does."""
    lines = [first_line, "", "# Parameters"]
    for name, value in sorted(options.items()):
        # Two underscores stand for one of sbatch's own, as in --gpu_cmode.
        option = f"#SBATCH --{name.replace('_', '-').replace('--', '_')}"
        if value is not None:
            lines.append(option if value is True else f"{option}={shlex.quote(str(value))}")
    lines += ["", "# setup", *setup, "", "# command", "export SUBMITIT_EXECUTOR=slurm", command, ""]
    return "\n".join(lines)


def submit(text: str, script: Path) -> str:
    """Submit a job with the ``text`` of a job script; return its id. While Slurm's controller is away, go on trying for
    some minutes.

    Args:
        script: where to write the text; `job_of` knows the job by it.

    Raises:
        Refused: Slurm did not take it.
    """
    script.write_text(text)
    deadline = time.monotonic() + TRY_FOR_S
    while True:
        done = subprocess.run(
            ["sbatch", script], env=environment(text), capture_output=True, text=True,
            errors="replace", start_new_session=True,  # Ctrl-C leaves no job behind that is not recorded
        )  # fmt: skip
        # Whatever its exit code: a site's wrapper may have failed after Slurm had taken the job.
        if taken := TAKEN.findall(done.stdout) or PARSABLE.findall(done.stdout):
            return str(taken[-1])
        ended = f"sbatch ended with exit code {done.returncode}, and named no job"
        error = done.stderr.strip() or ended
        killed = done.returncode < 0  # perhaps after Slurm had taken the job
        if not killed and not AWAY.search(error):
            answered, job_id = job_of(script)
            if job_id:
                return job_id
            if answered:
                script.unlink()
            raise Refused(error)
        log.warning("%s; trying again (Ctrl-C twice: give up)", error)
        answers = 0
        while answers < 2:  # it may give one before it has taken all that waited
            time.sleep(ASK_EVERY_S)
            answered, job_id = job_of(script)
            if job_id:
                return job_id
            if time.monotonic() > deadline:
                raise Refused(error)
            answers += answered


def environment(script: str) -> dict[str, str]:
    """That in which sbatch takes the text of a job ``script`` as it stands."""
    options = re.findall(r"^#SBATCH --([\w-]+)", script, re.MULTILINE)
    names = (VARIABLES.get(name, name.replace("-", "_").upper()) for name in options)
    left_out = {*NEVER, *(f"SBATCH_{name}" for name in names)}
    if {"SLURM_JOB_ID", LOCAL} & os.environ.keys():
        left_out |= {*filter(JOBS_OWN.match, os.environ)}
    return {name: value for name, value in os.environ.items() if name not in left_out}


def guarded(
    setup: Sequence[str], folder: str, python: str, source: Source, together: bool, timeouts: int
) -> list[str]:
    """The lines of ``setup``, with what ends the job if one of them fails or the runs cannot begin, and
    requeues it if they have stopped.

    Args:
        folder: that of the jobs.
        python: the shell command that starts the Python of the runs.
        source: of the app whose package that Python should have.
        together: the ranks of the job share a run, which fails with any of them.
        timeouts: how often the job is requeued because its time was over.
    """
    package = source.package.partition(".")[0]
    project = source.root and repository_of(source.root / package)
    needed = f"-e {shlex.quote(str(project))}" if package else "hpc-hydra"
    variables = {
        "folder": folder,
        "python": python,
        "remedy": f"{python} -m pip install {needed}",
        "together": "yes" if together else "",
        "max_num_timeout": str(timeouts),
    }
    before = "\n".join(f"hpc_{name}={shlex.quote(value)}" for name, value in variables.items())
    functions = Path(__file__).with_suffix(".sh").read_text()
    return [before, functions, *setup, BEGIN]


def job_of(script: Path) -> tuple[bool, str | None]:
    """Whether Slurm answers, and the id of the job that it took with this ``script``, if it did."""
    queue = squeue.ask(f"--user={os.geteuid()}", "--states=all", "--format=%F %o")
    pairs = (line.partition(" ") for line in (queue or "").splitlines())
    jobs = [job_id for job_id, _, command in pairs if command.strip() == str(script)]
    return queue is not None, jobs[0] if jobs else None
