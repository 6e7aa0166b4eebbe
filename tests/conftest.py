import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from cluster import Cluster, missing
from running import TEMPLATE, Project, cookiecutter, run


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Generated with the default answers and installed as its README says."""
    folder = tmp_path_factory.mktemp("generated")
    generated = cookiecutter("--no-input", TEMPLATE, cwd=folder)
    assert generated.returncode == 0, generated.stderr
    project = Project(folder / "hpc-experiment")
    for command in (
        [sys.executable, "-m", "venv", ".venv"],
        [".venv/bin/pip", "install", "--quiet", "--editable", ".[dev]"],
    ):
        done = run(*command, cwd=project.path)
        assert done.returncode == 0, done.stderr
    (packages,) = project.path.glob(".venv/lib/*/site-packages")
    shutil.copy(TEMPLATE / "tests" / "slurm" / "probe_models.py", packages)
    return project


@pytest.fixture(scope="session")
def slurm_installed() -> None:
    """Skip where a cluster cannot be started."""
    if os.geteuid() != 0 or missing():
        remedy = "needs root and Slurm's packages: sudo python3 tests/slurm/cluster.py install"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)


@pytest.fixture(scope="session")
def cluster(slurm_installed: None) -> Iterator[Cluster]:
    """A throwaway Slurm cluster, for the session."""
    with Cluster() as running:
        yield running


@pytest.fixture
def on_slurm(project: Project, cluster: Cluster) -> Project:
    """The generated repository, its user on a login node of the cluster."""
    return Project(project.path, cluster.environment)
