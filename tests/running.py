"""Run things as a user would."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
# What the caller's own Slurm job, venv, git hook or make would leak into what the tests start.
FOREIGN = (
    "SLURM", "SBATCH", "SRUN", "SUBMITIT", "WANDB", "PYTHON", "VIRTUAL_ENV", "GIT_",
    "COOKIECUTTER", "MAKE", "MFLAGS", "RUFF", "MYPY",
    "SCRATCH", "WORK", "PSCRATCH", "MYSCRATCH", "CINECA_SCRATCH",
)  # fmt: skip

Ended = subprocess.CompletedProcess[str]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's, without what is foreign and with ``variables``."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**own, "GIT_CONFIG_GLOBAL": str(TEMPLATE / "tests" / "gitconfig"), **variables}


def run(*command: str | Path, cwd: Path, **variables: str) -> Ended:
    """Run a command to its end, as a shell in ``cwd`` would; nobody answers its questions."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment({"PWD": str(cwd), **variables}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def cookiecutter(*arguments: str | Path, cwd: Path, **variables: str) -> Ended:
    """The command, with the user's files and its own copies below ``cwd``, and without a cluster."""
    program = Path(sys.executable).with_name("cookiecutter")
    temporary = cwd / ".tmp"  # where copies are left of what is refused
    temporary.mkdir(exist_ok=True)
    own = {"HOME": str(cwd), "TMPDIR": str(temporary), "HPC_HYDRA_SKIP_SLURM": "1"}
    return run(program, *arguments, cwd=cwd, **{**own, **variables})


@dataclass
class Project:
    """A generated repository with its virtual environment, and more variables for its user."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment(self, **variables: str) -> dict[str, str]:
        """With the virtual environment activated."""
        path = f"{self.path}/.venv/bin{os.pathsep}{os.environ['PATH']}"
        return environment({"PATH": path, **self.variables, **variables})

    def run(self, program: str, *arguments: str | Path, **variables: str) -> Ended:
        """Run a program of the virtual environment in the repository."""
        return run(
            self.path / ".venv" / "bin" / program, *arguments,
            cwd=self.path, **self.environment(**variables),
        )  # fmt: skip

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start the project's command without waiting for its end."""
        return subprocess.Popen(
            [f"{self.path}/.venv/bin/python", "-m", "hpc_experiment", *map(str, arguments)],
            cwd=self.path,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
