"""Run things as a user would."""

import atexit
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bytecode
import pytest

TEMPLATE = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent
# What the caller's own Slurm job, venv, git hook or make would leak into what the tests start.
FOREIGN = (
    "SLURM", "SBATCH", "SRUN", "SUBMITIT", "WANDB", "PYTHON", "VIRTUAL_ENV", "GIT_",
    "COOKIECUTTER", "MAKE", "MFLAGS", "RUFF", "MYPY",
    "SCRATCH", "WORK", "PSCRATCH", "MYSCRATCH", "CINECA_SCRATCH",
)  # fmt: skip

# For the lists of sweeps, which are nothing to the user's own, and a template.
STATE = tempfile.mkdtemp(prefix="hpc-hydra-tests-")
atexit.register(shutil.rmtree, STATE, ignore_errors=True)

Ended = subprocess.CompletedProcess[str]


def light_copy(to: Path) -> Path:
    """Of the template what it takes to generate: cookiecutter copies all that there is, .git included, each time."""
    (generated,) = TEMPLATE.glob("{{*")
    for name in ("hooks", "templates", generated.name):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TEMPLATE / name, to / name, ignore=ignored)
    shutil.copy(TEMPLATE / "cookiecutter.json", to)
    return to


LIGHT = light_copy(Path(STATE, TEMPLATE.name))


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's, without what is foreign and with ``variables``."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    fixed = {
        "GIT_CONFIG_GLOBAL": str(TEMPLATE / "tests" / "gitconfig"),
        "XDG_STATE_HOME": STATE,
        "OPENBLAS_NUM_THREADS": "1",  # several do small sums no sooner, and keep processors busy that others need
    }
    return {**own, **fixed, **variables}


def run(*command: str | Path, cwd: Path, user: str = "", **variables: str) -> Ended:
    """Run a command to its end, as a shell in ``cwd`` would; nobody answers its questions.

    Args:
        user: by default that of the tests.
    """
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment({"PWD": str(cwd), **variables}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        **as_user(user),
    )


def as_user(name: str) -> dict[str, Any]:
    """Options of subprocess; blank: the user of the tests."""
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name else {}


def cookiecutter(*arguments: str | Path, cwd: Path, **variables: str) -> Ended:
    """The command, with the user's files and its own copies below ``cwd``, and without a cluster."""
    temporary = cwd / ".tmp"  # where copies are left of what is refused
    temporary.mkdir(exist_ok=True)
    own = {"TMPDIR": str(temporary), "HPC_HYDRA_PLAIN_DEFAULTS": "1"}
    return run(TOOLS / "cookiecutter", *arguments, cwd=cwd, **{**home(cwd), **own, **variables})


def home(folder: Path) -> dict[str, str]:
    """Variables of a user whose home is ``folder``; what pip and uv have downloaded is found all the same."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return {"HOME": str(folder), "XDG_CACHE_HOME": cache}


def virtual_environment(folder: Path, *requirements: str | Path, of: str = sys.executable) -> Path:
    """A new one at ``folder`` of a Python, into which uv has installed these: its Python."""
    python = folder / "bin" / "python"
    for command in (
        ("venv", "--python", of, str(folder)),
        ("pip", "install", "--python", str(python), *map(str, requirements)),
    ):
        done = run(TOOLS / "uv", *command, cwd=folder.parent)
        assert done.returncode == 0, done.stderr
    bytecode.share(folder, of=Path(sys.prefix))
    return python


def make_quick(repository: Path) -> None:
    """Give a generated repository a user's own task and models in place of the template's, whose runs start in a third
    of the time."""
    for name in ("task", "models"):
        own = TEMPLATE / "tests" / "slurm" / f"quick_{name}.py"
        shutil.copy(own, repository / "src" / "hpc_experiment" / f"{name}.py")


def packages(venv: Path) -> Path:
    """The folder with what is installed in a virtual environment."""
    (folder,) = venv.glob("lib/*/site-packages")
    return folder


def see_packages(venv: Path, of: str | Path = sys.prefix) -> None:
    """In a virtual environment there is from now on, after its own, what is installed in another one."""
    others = f"import site; site.addsitedir({str(packages(Path(of)))!r})\n"
    (packages(venv) / "others.pth").write_text(others)


@contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A small disk of its own at ``place``."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place])
    if mounted.returncode:
        pytest.skip("needs a machine on which it may mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def path_with(folder: Path, *programs: str | Path) -> str:
    """A new PATH on which there are bash, the tests' Python as python3, and only ``programs`` besides."""
    folder.mkdir()
    for program in ("bash", *programs):
        found = shutil.which(program)
        assert found, program
        (folder / Path(program).name).symlink_to(found)
    python = folder / "python3"  # no link: a virtual environment would take it for its home
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return str(folder)


@dataclass
class Project:
    """A generated repository with its virtual environment, and more variables for its user."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None  # where its user is, if that is not the repository
    user: str = ""  # who that is; blank: the user of the tests

    def environment(self, **variables: str) -> dict[str, str]:
        """With the virtual environment activated."""
        path = f"{self.path}/.venv/bin{os.pathsep}{os.environ['PATH']}"
        return environment({"PATH": path, **self.variables, **variables})

    def run(self, program: str | Path, *arguments: str | Path, **variables: str) -> Ended:
        """Run a program of the virtual environment in the repository."""
        return run(
            self.path / ".venv" / "bin" / program, *arguments,
            cwd=self.path, user=self.user, **self.environment(**variables),
        )  # fmt: skip

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start the project's command without waiting for its end."""
        return subprocess.Popen(
            [f"{self.path}/.venv/bin/python", "-m", "hpc_experiment", *map(str, arguments)],
            cwd=self.cwd or self.path,
            env=self.environment(PWD=str(self.cwd or self.path), **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user(self.user),
        )
