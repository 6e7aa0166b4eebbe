import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing
from running import TEMPLATE, Ended, Project, cookiecutter, environment, path_with

# Of whoever submits.
VARIABLES = {"HOME": "/home/me", "USER": "me", "WORK": "/work of/me", "SCRATCH": "/scratch/me"}
JobScripts = Callable[[Path], dict[str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first, so that at the end not all wait for it."""
    items.sort(key=lambda item: item.name != "test_demo")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Project, Ended]:
    """Generated with the default answers, and installed by the generator with pip: takes a minute,
    so the first of the tests' processes does it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "generated"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = folder / "ended.json"
        if not folder.exists():
            folder.mkdir()
            path = path_with(folder / "bin", "git")
            ended = cookiecutter("--no-input", TEMPLATE, "create_venv=yes", cwd=folder, PATH=path)
            record.write_text(json.dumps(vars(ended)))
    return Project(folder / "hpc-experiment"), Ended(**json.loads(record.read_text()))


@pytest.fixture(scope="session")
def project(finished: tuple[Project, Ended]) -> Project:
    """A generated repository with its virtual environment."""
    project, ended = finished
    assert f"{project.path}/.venv is ready" in ended.stdout, ended.stdout + ended.stderr
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


@pytest.fixture(scope="session")
def job_scripts(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobScripts]:
    """The job scripts of another generated repository's presets, which need not be installed."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "srun").touch(mode=0o755)  # without one submitit writes no script
    with subprocess.Popen(
        [f"{project.path}/.venv/bin/python", TEMPLATE / "tests" / "job_scripts.py"],
        env=environment({"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **VARIABLES}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin and server.stdout
        questions, answers = server.stdin, server.stdout

        def ask(repository: Path) -> dict[str, str]:
            print(repository, file=questions, flush=True)
            scripts: dict[str, str] = json.loads(answers.readline())
            assert "error" not in scripts, scripts["error"]
            return scripts

        yield ask
        questions.close()
