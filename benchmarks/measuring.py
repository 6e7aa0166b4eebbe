"""What the parts share: where they measure, processes with what they use, and the rows of the table."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from running import Project

APP = Path(__file__).parent / "trivial_app.py"
OURS = ("--multirun", "hydra/launcher=hpc_slurm", "hydra/sweeper=hpc")
STOCK = ("--multirun", "hydra/launcher=submitit_slurm")
# A job that Slurm has but does not start.
HELD = "++hydra.launcher.additional_parameters.hold=true"
WITHOUT_WAITING = "hydra.launcher.wait=false"
SLURM_COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "srun")
KIB = 1024 / 1e6  # in MB
# Notes each call when it has returned: its name, its exit code and the time.
NOTING = """\
#!/bin/sh
{program} "$@"
status=$?
echo {name} $status $(date +%s.%N) >> "$NOTES"
exit $status
"""


class Failed(Exception):
    """Something could not be measured."""


@dataclass(frozen=True)
class Row:
    """Of the table; blank where there is nothing to say."""

    what: str
    ours: str = ""
    stock: str = ""
    others: str = ""
    ratio: str = ""
    goal: str = ""

    def __str__(self) -> str:
        return f"| {' | '.join(vars(self).values())} |"


@dataclass(frozen=True)
class Usage:
    """What a process has used, the processes that it has waited for included in its CPU time."""

    seconds: float  # from its start
    cpu_s: float
    peak_mb: float


@dataclass
class Process:
    """One that was started to be measured."""

    command: str
    popen: subprocess.Popen[bytes]
    output: Path
    notes: Path
    began: float

    def returned(self, program: str) -> list[float]:
        """When its calls of one of SLURM_COMMANDS returned, in seconds from its start."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        calls = (line.split() for line in lines)
        return [float(at) - self.began for name, status, at in calls if name == program]

    def usage(self) -> Usage:
        """Until now, of a process that lives."""
        if self.popen.poll() is not None:
            raise self._failure()
        folder = Path("/proc", str(self.popen.pid))
        # After the name, which may have spaces in it: state is the first of these, utime the 12th.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = sum(map(int, fields[11:15]))
        lines = (folder / "status").read_text().splitlines()
        memory = dict(line.split(":", 1) for line in lines)["VmHWM"]
        cpu_s = ticks / os.sysconf("SC_CLK_TCK")
        return Usage(time.time() - self.began, cpu_s, int(memory.split()[0]) * KIB)

    def end(self) -> Usage:
        """Wait for its end."""
        _, status, used = os.wait4(self.popen.pid, 0)
        seconds = time.time() - self.began
        self.popen.returncode = os.waitstatus_to_exitcode(status)
        if self.popen.returncode:
            raise self._failure()
        return Usage(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * KIB)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds, while the process lives."""
        while not condition():
            if self.popen.poll() is not None:
                raise self._failure()
            time.sleep(0.02)

    def _failure(self) -> Failed:
        tail = "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])
        return Failed(f"exit code {self.popen.returncode} of {self.command}\n{tail}")


@dataclass
class Place:
    """Where everything is measured: an installed repository, and a cluster to which its user submits."""

    folder: Path
    project: Project
    bare: Path  # Python of an environment that has hydra-core alone
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        # A copy, since Python leaves compiled files beside what it imports.
        (self.folder / "app").mkdir()
        self.app = Path(shutil.copy(APP, self.folder / "app"))
        (self.folder / "noting").mkdir()
        for name in SLURM_COMMANDS:
            program = shutil.which(name)
            assert program, name
            wrapper = self.folder / "noting" / name
            wrapper.write_text(NOTING.format(name=name, program=shlex.quote(program)))
            wrapper.chmod(0o755)

    @property
    def python(self) -> Path:
        return self.project.path / ".venv" / "bin" / "python"

    def fresh(self) -> Path:
        """A path at which there is nothing yet."""
        return self.folder / str(next(self.numbers))

    @contextmanager
    def started(
        self,
        *command: str | Path,
        noting: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> Iterator[Process]:
        """A process in a new folder, killed in the end; to be ``noting`` its calls of SLURM_COMMANDS
        costs each of them two milliseconds."""
        folder = self.fresh()
        folder.mkdir()
        environment = self.project.environment(NOTES=str(folder / "notes"), **(variables or {}))
        if noting:
            path = f"{self.folder}/noting{os.pathsep}{environment['PATH']}"
            environment["PATH"] = path
        words = [str(word) for word in command]
        output = folder / "output"
        with output.open("wb") as file:
            began = time.time()
            popen = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield Process(shlex.join(words), popen, output, folder / "notes", began)
        finally:
            if popen.returncode is None:
                os.killpg(popen.pid, signal.SIGKILL)  # with what it has started
                popen.wait()

    def used(self, *command: str | Path, variables: Mapping[str, str] | None = None) -> Usage:
        """What a command uses until its end."""
        with self.started(*command, variables=variables) as process:
            return process.end()

    def answer(self, *command: str | Path) -> str:
        """What a command prints."""
        with self.started(*command) as process:
            process.end()
            return process.output.read_text()

    def wait_until_idle(self) -> None:
        """Until Slurm has no job left: a command may end a moment before its jobs do."""
        deadline = time.monotonic() + 60
        while left := self.answer("squeue", "--noheader"):
            if time.monotonic() > deadline:
                raise Failed(f"after a minute Slurm still has\n{left}")
            time.sleep(0.5)

    def cancel_all(self) -> None:
        """Leave Slurm without a job."""
        self.used("scancel", "--me")
        self.wait_until_idle()


def packed(runs: int, ranks: int) -> tuple[str, ...]:
    """Overrides for jobs of ``ranks`` ranks that share ``runs`` runs."""
    return (
        "hydra.launcher.nodes=1",
        f"hydra.launcher.tasks_per_node={ranks}",
        f"hydra.launcher.runs_per_job={runs}",
    )


def tell(progress: str) -> None:
    """What is going on, which is no part of the table."""
    print(f"==> {progress}", file=sys.stderr, flush=True)


def seconds(number: float) -> str:
    """With three digits, as far as they are behind the point."""
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} s"


def megabytes(number: float) -> str:
    return f"{number:.0f} MB"


def goal(text: str, met: bool) -> str:
    """A goal and whether it is met."""
    return f"{text}: {'met' if met else 'missed'}"
