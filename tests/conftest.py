import os
import shutil
from collections.abc import Iterator

import pytest
from cluster import Cluster, missing
from running import TEMPLATE, Ended, Project, cookiecutter, path_with


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Ended]:
    """Generated with the default answers, and installed by the generator with pip: takes a minute."""
    folder = tmp_path_factory.mktemp("generated")
    path = path_with(folder / "bin", "git")
    ended = cookiecutter("--no-input", TEMPLATE, "create_venv=yes", cwd=folder, PATH=path)
    return Project(folder / "hpc-experiment"), ended


@pytest.fixture(scope="session")
def project(finished: tuple[Project, Ended]) -> Project:
    """A generated repository with its virtual environment."""
    project, ended = finished
    assert f"{project.path}/.venv is ready" in ended.stdout, ended.stdout + ended.stderr
    (packages,) = project.path.glob(".venv/lib/*/site-packages")
    shutil.copy(TEMPLATE / "tests" / "slurm" / "probe_models.py", packages)
    return project


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A throwaway Slurm cluster, for the session."""
    if os.geteuid() != 0 or missing():
        remedy = "needs root and Slurm's packages: sudo python3 tests/slurm/cluster.py install"
        if os.environ.get("CI"):
            pytest.fail(remedy)
        pytest.skip(remedy)
    with Cluster() as running:
        yield running


@pytest.fixture
def on_slurm(project: Project, cluster: Cluster) -> Project:
    """The generated repository, its user on a login node of the cluster."""
    return Project(project.path, cluster.environment)
