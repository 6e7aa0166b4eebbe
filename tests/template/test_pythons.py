"""Repositories of odd answers pass all their tests, on every Python that is promised and found here."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import test_answers
from faults import ONE_THREAD
from running import TEMPLATE, TOOLS, cookiecutter, run, see_packages
from test_answers import DEFAULTS

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
OWN = f"3.{sys.version_info.minor}"
Answers = dict[str, str]


def names() -> list[Answers]:
    """Every answer that may hold odd characters does."""
    return [
        {
            "project_name": 'The "best" of Zoë\'s `nets` \\o/ #1: $HOME, 100% <b>*x*</b> 漢🚀',
            "project_slug": "a-b_c1",
            "account": "$USER@v100",
            "gpu_request": "gpus_per_node=a100_1g.5gb:{n} gres=tmpdisk:{10n} cpus-per-task={10n} mem={60n}G",
            "gpu_sbatch": 'constraint="a100&80gb|[x*2]" comment="it\'s a #b; ` | &" exclusive nodes= srun:label',
            "setup_commands": 'export A="${A:-1}"; true # why',
            "python": "~/venvs-of-$USER/é漢#1",
            "output_dir": "out puts/it's \"#;&(x)*",
            "wandb_mode": "disabled",
            "signal_policy": "ignore",
        }
    ]


def without_gpus() -> list[Answers]:
    """And blank wherever an answer may be."""
    return [
        {
            "project_slug": "a" * 36,
            "gpus_per_node": "0",
            "gpu_partition": " ",
            "cpu_partition": " ",
            "cpu_sbatch": "no-requeue ntasks=2 debug:qos=dev time=2-12 mem=4000M",
            "setup_commands": "#!/bin/bash -l\nunset SLURM_EXPORT_ENV\nset -a\n",
            "python": " ",
            "output_dir": "$SCRATCH/漢",
            "wandb_mode": "online",
        }
    ]


def drawn() -> list[Answers]:
    """As the property test draws them, with several odd ones."""
    found: list[Answers] = []

    def draw(odd: Answers) -> None:
        odd = {**odd, "library": DEFAULTS["library"]}  # others cannot be installed here
        if sum(answer != DEFAULTS[name] for name, answer in odd.items()) > 3:
            found.append(odd)

    test_answers.drawn(draw, number=100, start=22)
    return found


# Each on one of the Pythons that other tests do not use.
OTHERS = [version for version in VERSIONS if version != OWN]
KINDS: list[Callable[[], list[Answers]]] = [names, without_gpus, drawn]


@pytest.mark.parametrize(
    ("version", "kind"), [*zip(OTHERS, KINDS, strict=True)], ids=[each.__name__ for each in KINDS]
)
def test_a_repository_of_odd_answers(
    version: str, kind: Callable[[], list[Answers]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Where that version is not found, with the tests' own Python and what is installed for other tests; answers that
    are drawn only with that version."""
    folders = [*map(str, Path.home().glob(".pyenv/versions/*/bin")), os.environ["PATH"]]
    command = (TOOLS / "uv", "venv", "--quiet", "--no-python-downloads", "--python")
    venv, path = tmp_path / "venv", os.pathsep.join(folders)
    what = ["--editable", ".[dev]"]
    if run(*command, version, venv, cwd=tmp_path, PATH=path).returncode:
        if kind is drawn:
            pytest.skip(f"needs Python {version}")
        made = run(*command, sys.executable, venv, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        see_packages(venv, request.getfixturevalue("project").path / ".venv")
        what.append("--no-deps")
    odd, project = generated(kind(), tmp_path)
    for program, *arguments in (
        ["uv", "pip", "install", "--quiet", "--python", str(venv), *what],
        [f"{venv}/bin/python", "-m", "ruff", "check"],
        [f"{venv}/bin/python", "-m", "pytest", "-q"],
    ):
        done = run(TOOLS / program, *arguments, cwd=project, **ONE_THREAD)
        assert done.returncode == 0, f"{odd}\n{done.stdout}{done.stderr}"


def generated(candidates: list[Answers], folder: Path) -> tuple[Answers, Path]:
    """The first answers that are not refused (of the drawn ones about half are), and their repository."""
    for odd in candidates:
        package = odd.get("project_slug", "hpc-experiment").replace("-", "_")
        context = {**DEFAULTS, "project_slug": "hpc-experiment", **odd, "__package": package}
        (folder / "answers.json").write_text(json.dumps({"cookiecutter": context}))
        answers = ("--replay-file", folder / "answers.json", "--output-dir", "new")
        done = cookiecutter(*answers, TEMPLATE, cwd=folder)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    (project,) = (folder / "new").iterdir()
    return odd, project
