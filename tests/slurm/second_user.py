"""A second user of the throwaway cluster, whose files are his own, and who cannot read those of the tests' user."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from running import TEMPLATE, Project, as_user, home, packages, virtual_environment

NAME = "nobody"
LACKING = (
    f"no Python 3.10 or newer that the user {NAME} may execute: the tests' own may lie below /root"
)


def python_of_all() -> str:
    """A Python that this user too can start; blank if there is none."""
    check = "import sys; sys.exit(sys.version_info < (3, 10))"
    own: str = sys._base_executable  # type: ignore[attr-defined]
    candidates = [own, "/usr/local/bin/python3", "/usr/bin/python3"]
    for python in candidates:
        try:
            if subprocess.run([python, "-c", check], cwd="/", **as_user(NAME)).returncode == 0:
                return python
        except OSError:
            continue
    return ""


def project_of(lab: Path, python: str, quick: Project, variables: Mapping[str, str]) -> Project:
    """The repository ``quick`` and an environment of ``python`` once more, in a folder that all can enter."""
    path, own = lab / "quick" / "hpc-experiment", lab / f"home of {NAME}"
    shutil.copytree(quick.path, path, ignore=shutil.ignore_patterns(".*", "outputs"))
    virtual_environment(path / ".venv", f"{TEMPLATE}[wandb]", "hydra-zen", of=python)
    shutil.copy(TEMPLATE / "tests" / "slurm" / "probe_models.py", packages(path / ".venv"))
    own.mkdir()
    shutil.chown(own, NAME)
    his = {
        **home(own), "XDG_CACHE_HOME": str(own), "XDG_STATE_HOME": str(own), "TMPDIR": str(own),
        "USER": NAME, "LOGNAME": NAME, "GIT_CONFIG_GLOBAL": "/dev/null",
        "PYTHONPATH": f"{path}/src", "PYTHONPYCACHEPREFIX": f"{own}/pycache",
    }  # fmt: skip
    return Project(path, {**quick.variables, **variables, **his}, user=NAME)
