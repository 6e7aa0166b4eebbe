"""Runs in a container that has no command of Slurm's: Charliecloud's, which needs no daemon and no root."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import slurm, wait_until
from running import Project
from test_limits_and_preemption import preempt

Traced = Callable[..., Sweep]


@pytest.fixture
def python(quick: Project, tmp_path: Path) -> str:
    """The command that starts Python in a container with nothing but libraries and the project."""
    assert shutil.which("ch-run"), "needs Debian's charliecloud: see cluster.py"
    image = tmp_path / "image"
    for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "usr/bin"):
        (image / folder).mkdir(parents=True)
    places = [Path(each) for each in ("/lib", "/lib64", "/usr/lib", sys.base_prefix)]
    binds = []
    for place in (*places, quick.path.parents[1]):
        image.joinpath(*place.parts[1:]).mkdir(parents=True, exist_ok=True)
        binds += ["--bind", f"{place}:{place}"]
    words = [
        "ch-run",
        "--no-passwd",
        *binds,
        image,
        "--",
        quick.path / ".venv" / "bin" / "python",
    ]
    return shlex.join(map(str, words))


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_warning_and_a_preemption_end_in_a_requeue(
    ranks: int, python: str, traced: Traced, cluster: Cluster
) -> None:
    """The job script asks and requeues, which is outside of the container."""
    sweep = traced(
        "+setup=hpc_batch", "epochs=60", f"hydra.launcher.nodes={min(ranks, 2)}",
        f"hydra.launcher.tasks_per_node={ranks // min(ranks, 2)}", pace=1, USER="root",
    )  # fmt: skip
    with sweep.going_on(f"hydra.launcher.python='{python}'") as process:
        assert sweep.runs[0]["python"] == f"{sweep.project.path}/.venv/bin/python"
        slurm(sweep.project, "scancel", "--signal=USR2", f"{sweep.job}_0")
        wait_until(lambda: sweep.restarts == [1], process)
        preempt(sweep)
        wait_until(lambda: sweep.restarts == [2], process)
        sweep.set_pace(0)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    sweep.tell("a warning and a preemption of a run in a container", 2)


def test_a_container_that_does_not_start(python: str, traced: Traced) -> None:
    """The check before the runs is made where they will run."""
    sweep = traced("+setup=hpc_batch", "epochs=3", pace=0, USER="root")
    broken = python.replace("/image", "/no_image")
    ended = sweep.repeat(f"hydra.launcher.python='{broken}'")
    assert ended.returncode == 1
    error = sweep.runs[0]["error"]
    assert "does not start, or lacks what the runs need" in error and "no_image" in error
