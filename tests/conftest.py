import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import bytecode
import faults
import pytest
from cluster import Cluster, missing
from running import (
    TEMPLATE,
    TOOLS,
    Project,
    cookiecutter,
    environment,
    make_quick,
    packages,
    path_with,
    see_packages,
    virtual_environment,
)

# Of whoever submits.
VARIABLES = {"HOME": "/home/me", "USER": "me", "WORK": "/work of/me", "SCRATCH": "/scratch/me"}
JobScripts = Callable[[Path], dict[str, str]]
# What a shell starts in the background, or nohup, ignores these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# From the longest one on.
LONG = (
    "test_why_jobs_ended", "test_its_tests_and_checks", "test_library", "test_demo", "test_a_repository_of_odd_answers",
    "test_a_preemption", "test_at_random_moments", "test_time_limits_until_no_more_are_granted", "test_signals",
    "test_chaos", "test_installed_with_pip", "test_one_that_ignores_signals_is_killed",
)  # fmt: skip


@pytest.hookimpl(trylast=True)  # when it is known which are left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each of the tests' processes gets an equal part of the list. The long tests come early, so that at the end not all
    wait for one; those of Slurm, which wait, among the others, which work, so that there is always work to do."""
    kinds: dict[str, list[pytest.Item]] = {"long": [], "waiting": [], "others": []}
    for item in items:
        waits = item.path.parent == Path(__file__).with_name("slurm")
        kind = "long" if _name(item) in LONG else "waiting" if waits else "others"
        kinds[kind].append(item)
    kinds["long"].sort(key=lambda item: LONG.index(_name(item)))
    parts: int = getattr(config, "workerinput", {}).get("workercount", 1)
    ordered: list[pytest.Item] = []
    for left in range(parts, 0, -1):
        long, waiting = (kinds[kind][left - 1 :: parts] for kind in ("long", "waiting"))
        more = max((len(items) - len(ordered)) // left - len(long) - len(waiting), 0)
        others, kinds["others"] = kinds["others"][:more], kinds["others"][more:]
        before = (
            len(waiting) // 2 * (left % 2 == 0)
        )  # half of the processes begin with those that wait
        ordered += [*waiting[:before], *long, *_among(others, waiting[before:])]
    items[:] = ordered


def _name(item: pytest.Item) -> str:
    return item.name.partition("[")[0]


def _among(many: list[pytest.Item], few: list[pytest.Item]) -> Iterator[pytest.Item]:
    """``many``, and among their first three quarters at equal distances ``few``: none of these is the last."""
    step = len(many) * 3 // 4 // max(len(few), 1)
    for place, item in enumerate(few):
        yield item
        yield from many[place * step : (place + 1) * step]
    yield from many[len(few) * step :]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the faults did, if any were injected."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    properties = [
        each for report in reports if report.when == "call" for each in report.user_properties
    ]
    if rows := sorted(row for name, row in properties if name == "fault"):
        terminalreporter.section("faults injected on a throwaway Slurm cluster")
        for line in faults.table(rows):
            terminalreporter.write_line(line)


def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The same one for all of the tests' processes."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A repository with the default answers and its virtual environment, made by the generator with uv; the
    first of the tests' processes does it for all."""
    folder = shared_folder(tmp_path_factory, worker_id) / "generated"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        project, ready = Project(folder / "hpc-experiment"), folder / "ready"
        if not ready.exists():
            folder.mkdir()
            path = path_with(folder / "bin", "git", TOOLS / "uv")
            ended = cookiecutter("--no-input", TEMPLATE, "create_venv=yes", cwd=folder, PATH=path)
            assert f"{project.path}/.venv is ready" in ended.stdout, ended.stdout + ended.stderr
            bytecode.share(project.path / ".venv", of=Path(sys.prefix))
            probes = TEMPLATE / "tests" / "slurm" / "probe_models.py"
            shutil.copy(probes, packages(project.path / ".venv"))
            # What is imported is compiled here, and not by each of many jobs that start at once.
            options = ("epochs=1", f"hydra.run.dir={folder}/first")
            project.run("python", "-m", "hpc_experiment", *options, WANDB_MODE="offline")
            ready.touch()
    return project


@pytest.fixture(scope="session")
def pytorch_project(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A repository for PyTorch, installed beside what these tests have installed themselves."""
    if not find_spec("torch"):
        pytest.skip(
            "needs PyTorch in the tests' environment: scripts/torch.sh says why it is not there"
        )
    folder = shared_folder(tmp_path_factory, worker_id) / "pytorch"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        project = Project(
            folder / "hpc-experiment", {"WANDB_MODE": "disabled", **faults.ONE_THREAD}
        )
        if not folder.exists():
            folder.mkdir()
            answers = ("framework=pytorch", "create_venv=no")
            ended = cookiecutter("--no-input", TEMPLATE, *answers, cwd=folder)
            assert ended.returncode == 0, ended.stderr
            editable = ("--no-deps", "--editable", project.path)
            virtual_environment(project.path / ".venv", *editable)
            venv = project.path / ".venv"
            see_packages(venv)
            shutil.copy(TEMPLATE / "tests" / "slurm" / "probe_nets.py", packages(venv))
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


@pytest.fixture(scope="session")
def quick(project: Project, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The generated repository with a user's own task and models in place of the template's: its runs start
    in a third of the time, and are nothing to W&B unless told otherwise."""
    folder = shared_folder(tmp_path_factory, worker_id) / "quick"
    quick = Project(
        folder / "hpc-experiment",
        {"PYTHONPATH": f"{folder}/hpc-experiment/src", "WANDB_MODE": "disabled"},
    )
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            ignored = shutil.ignore_patterns(".*", "outputs")
            shutil.copytree(project.path, quick.path, ignore=ignored)
            (quick.path / ".venv").symlink_to(project.path / ".venv")
            make_quick(quick.path)
    return quick


@pytest.fixture
def on_slurm(quick: Project, cluster: Cluster) -> Iterator[Project]:
    """The quick repository, its user on a login node of the cluster."""
    yield Project(quick.path, {**quick.variables, **cluster.environment})
    cluster.restart(*cluster.down)


@pytest.fixture
def generated_on_slurm(project: Project, cluster: Cluster) -> Project:
    """The repository as it was generated."""
    return Project(project.path, cluster.environment)


@pytest.fixture
def lab() -> Iterator[Path]:
    """A folder that, other than pytest's, others can enter: git asks whether the user may, without
    regard to capabilities."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def trace(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    record_property: Callable[[str, object], None],
) -> Callable[..., faults.Sweep]:
    """Makes sweeps of a project to do faults to: ``trace(project, *overrides, name="sweep", pace=0.3)``,
    in a ``folder`` of the project's user, or that of the test.

    What runs give that no fault is done to, the first of the tests' processes finds out for all.
    """

    def make(
        project: Project, *overrides: str, name: str = "sweep", pace: float = 0.3,
        folder: Path = tmp_path, **variables: str,
    ) -> faults.Sweep:  # fmt: skip
        known = (
            shared_folder(tmp_path_factory, worker_id) / f"undisturbed {project.path.parent.name}"
        )
        with Path(f"{known}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not known.exists():
                faults.make_undisturbed(replace(project, user=""), known)
        sweep = faults.Sweep(
            project, folder / name, overrides, faults.read_undisturbed(known),
            lambda row: record_property("fault", row),
            {"WANDB_MODE": "disabled", **faults.ONE_THREAD, **variables},
        )  # fmt: skip
        for place in {sweep.directory, sweep.traces}:
            place.mkdir()
            if project.user:
                shutil.chown(place, project.user)
        sweep.set_pace(pace)
        return sweep

    return make


@pytest.fixture
def traced(trace: Callable[..., faults.Sweep], on_slurm: Project) -> Callable[..., faults.Sweep]:
    """Makes sweeps of the quick repository: ``traced(*overrides, name="sweep", pace=0.3)``."""
    return partial(trace, on_slurm)


@pytest.fixture(scope="session")
def job_scripts() -> Iterator[JobScripts]:
    """The job scripts of a generated repository's presets, which need not be installed."""
    with subprocess.Popen(
        [sys.executable, TEMPLATE / "tests" / "job_scripts.py"],
        env=environment(VARIABLES),
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
