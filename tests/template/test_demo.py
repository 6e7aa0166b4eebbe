"""`make demo`, twice: on Slurm, then over the first one's remains without Slurm.

It is here that the tests of a repository with the default answers run; the second time they are only collected.
"""

import shlex
import sys
from pathlib import Path

import bytecode
import pytest
from cluster import Cluster
from faults import ONE_THREAD
from running import TEMPLATE, TOOLS, Project, run

UV = """\
#!/bin/sh
{uv} "$@" || exit
[ "$1" != pip ] || exec {python} {program} .venv {other}
"""


@pytest.fixture
def tools(project: Project, tmp_path: Path) -> Path:
    """Those of these tests, as if make had installed them there; and what uv installs is not compiled once more."""
    folder = tmp_path / "tools" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "cookiecutter"):
        (folder / name).symlink_to(TOOLS / name)
    words = {
        "uv": TOOLS / "uv", "python": sys.executable,
        "program": bytecode.__file__, "other": project.path / ".venv",
    }  # fmt: skip
    uv = folder / "uv"
    uv.write_text(UV.format(**{name: shlex.quote(str(word)) for name, word in words.items()}))
    uv.chmod(0o755)
    return folder.parent


def test_demo(cluster: Cluster, tools: Path, tmp_path: Path) -> None:
    made = (f"ENV={tools}", f"--old-file={tools}/.installed")
    command = ("make", "--no-print-directory", "demo", f"CACHE={tmp_path}/cache", *made)
    repository = tmp_path / "cache" / "demo" / "hpc-experiment"
    for preset, variables in (
        ("hpc_batch", cluster.environment),
        ("local", {"PYTEST_ADDOPTS": "--collect-only"}),
    ):
        own = {"WANDB_MODE": "disabled", **ONE_THREAD, **variables}
        done = run(*command, cwd=TEMPLATE, **own)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (" passed in " in done.stdout) == (preset == "hpc_batch")
        assert f"+setup={preset} " in done.stdout
        assert done.stdout.count("==> 4/4") == 1  # not a second time, on this machine
        assert done.stdout.count("COMPLETED") == 8
        assert f"outputs: {repository}/outputs/" in done.stdout
        assert run("git", "status", "--porcelain", cwd=repository).stdout == ""
