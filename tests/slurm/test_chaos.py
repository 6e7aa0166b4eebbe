"""Everything that may happen to jobs, at random and several at a time: `make chaos MINUTES=20`.

A failing seed can be repeated: `make chaos SEED=123456`. The order of what is done is the same then; the moments
at which it meets the runs are not.
"""

import json
import os
import pickletools
import pwd
import random
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos import Chaos
from cluster import Cluster
from faults import Sweep
from jobs import wait_until
from library.wandb_server import received, receiving
from running import Project, disk
from second_user import LACKING, project_of, python_of_all

MINUTES = float(os.environ.get("MINUTES", 0.25))
SEED = int(os.environ.get("SEED", random.randrange(10**6)))
RANKS = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2")
PACKED = ("hydra.launcher.runs_per_job=4", "hydra.launcher.tasks_per_node=2")
SHAPES = {
    "array": ("+setup=hpc_batch", "seed=0", "epochs=59,60"),
    "packed": ("+setup=hpc_batch", "seed=0,1", "epochs=59,60", *PACKED),
    "ranks": ("+setup=hpc_batch", "seed=2", "epochs=60", *RANKS),
    "local": ("+setup=local", "seed=3", "epochs=60"),
    "disk": ("+setup=hpc_batch", "seed=1", "epochs=59,60"),
    "wandb": ("+setup=hpc_batch", "seed=2", "epochs=60"),
}
EXTRAS = ("user", "disk", "wandb")  # a second one; a small one that fills up; its service is killed


@pytest.fixture
def extras() -> set[str]:
    """All of them; if there is little time, one, by the seed."""
    return {*EXTRAS} if MINUTES >= 1 else {EXTRAS[SEED % len(EXTRAS)]}


@pytest.fixture
def projects(extras: set[str], on_slurm: Project, cluster: Cluster, lab: Path) -> list[Project]:
    """The repository of each user."""
    python = python_of_all() if "user" in extras else ""
    if "user" in extras and not python:
        assert not os.environ.get("CI"), LACKING
        print("without a second user:", LACKING)
    more = [project_of(lab, python, on_slurm, cluster.environment)] if python else []
    return [on_slurm, *more]


@pytest.fixture
def small(extras: set[str], lab: Path) -> Iterator[Path | None]:
    """A small disk."""
    with ExitStack() as stack:
        place = None
        if "disk" in extras:
            try:
                place = stack.enter_context(disk(lab / "disk", "size=32m,mode=1777"))
            except pytest.skip.Exception as lacking:
                print("without a full disk:", lacking)
        yield place


@pytest.mark.long  # and what it finds is for whoever looks for it, not for whoever changes a line
@pytest.mark.timeout(3600)
def test_chaos(
    trace: Callable[..., Sweep], projects: list[Project], small: Path | None, extras: set[str],
    cluster: Cluster, lab: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """Each run completes exactly once, with the metrics of one that nothing disturbed; no step before its newest
    checkpoint is done twice; nothing is torn; no process and no job is left; records and Slurm agree."""
    print("seed:", SEED, "with", *sorted(extras))
    chaos = Chaos(SEED, cluster, lab, small)
    try:
        go_on(chaos, lambda number: make(trace, projects, chaos, extras, number))
    except BaseException:
        unwanted = shutil.ignore_patterns(".venv", "home of *")
        kept = shutil.copytree(lab, tmp_path / "kept", symlinks=True, ignore=unwanted)
        (kept / "outputs").write_text("\n---\n".join(chaos.outputs))
        for log in cluster.directory.glob("*.log"):
            shutil.copy(log, kept)
        print("what it was done to:", kept)
        print("jobs:", *chaos.jobs(), sep="\n")
        raise


def go_on(chaos: Chaos, sweeps: Callable[[int], Iterator[Sweep]]) -> None:
    """With new sweeps, when all are complete, until the time is over."""
    chance = random.Random(SEED)
    deadline = time.monotonic() + 60 * MINUTES
    number = 0
    while number == 0 or time.monotonic() < deadline:
        number += 1
        chaos.begin(list(sweeps(number)))
        try:
            while time.monotonic() < deadline and not chaos.attend():
                time.sleep(chance.uniform(0, 3))
                chaos.settle()
                chaos.strike()
            chaos.settle_all()
            print(sum(chaos.done.values()), "faults:", dict(chaos.done), flush=True)
            for sweep in chaos.sweeps:
                sweep.set_pace(0)
            wait_until(chaos.is_over, seconds=600)
        finally:
            chaos.settle_all()
            for command in chaos.commands.values():
                command.kill()
        wait_until(lambda: not list(chaos.processes()))
        for sweep in chaos.sweeps:
            check(sweep)
        for output in chaos.outputs:
            assert "Traceback" not in output, output


def make(
    trace: Callable[..., Sweep], projects: list[Project], chaos: Chaos, extras: set[str],
    number: int,
) -> Iterator[Sweep]:  # fmt: skip
    """One of each shape, divided among the users. If there is little time, the array is the one with an extra."""
    names = {*SHAPES} - ({"disk", "wandb"} - extras)
    if len(extras) == 1 and "user" not in extras:
        names.remove("array")
    if chaos.disk is None:
        names.discard("disk")
    chance = random.Random(f"{SEED} owners of {number}")
    owners = [*projects, *chance.choices(projects, k=len(names) - len(projects))]
    chance.shuffle(owners)
    for name, project in zip(sorted(names), owners, strict=True):
        unique = f"{name}{number}"
        variables = dict(chaos.variables)
        folder = chaos.folder / f"of {project.user or 'root'}"
        if name == "disk" and chaos.disk:  # where the traces of its steps would be lost
            folder, variables["TRACES"] = chaos.disk, f"{chaos.folder}/traces{number}"
        if name == "wandb":
            variables["WANDB_MODE"] = "offline"
        folder.mkdir(exist_ok=True)
        yield trace(project, *SHAPES[name], name=unique, pace=0.5, folder=folder, **variables)


def check(sweep: Sweep) -> None:
    """What is to hold of a sweep afterwards."""
    assert sweep.states == ["COMPLETED"] * len(sweep.numbers)
    assert sweep.lost() == []
    for number, run in zip(sweep.numbers, sweep.runs, strict=True):
        ends = [attempt.get("state") for attempt in run["attempts"]]
        assert ends.count("COMPLETED") == 1, (number, ends)
        saved = 0
        for line in (sweep.traces / str(number) / "steps_0").read_text().splitlines():
            word, step = line.split()
            if word == "end":
                saved = max(saved, int(step) - 1)  # the checkpoint after it may be lost
            else:
                assert int(step) > saved, (number, line)
    check_files(sweep)
    table = sweep.project.run("hpc", "status", sweep.directory)
    assert f"{len(sweep.numbers)} completed" in table.stdout
    if sweep.variables["WANDB_MODE"] == "offline":
        check_wandb(sweep)


def check_files(sweep: Sweep) -> None:
    """All are their owner's, and whole."""
    owner = pwd.getpwnam(sweep.project.user or "root").pw_uid
    for path in sweep.directory.glob("**/*"):
        assert path.lstat().st_uid == owner, path
    for path in sweep.directory.glob("**/*.json"):
        json.loads(path.read_text())
    for path in sweep.directory.glob("[0-9]*/checkpoint_*.ckpt"):
        assert f"{zlib.crc32(path.read_bytes()):08x}" in path.name, path
    for path in sweep.directory.glob("jobs/run_*.pkl"):
        with path.open("rb") as file:
            parts = 0
            while file.peek(1):
                parts += bool([*pickletools.genops(file)])
        assert parts == 3, path


def check_wandb(sweep: Sweep) -> None:
    """Each step is sent once, whatever its service had written when it was killed."""
    home = sweep.project.environment().get("TMPDIR", "/tmp")
    with receiving() as server:
        done = sweep.project.run("hpc", "sync", sweep.directory, **{"HOME": home, **server})
    assert done.returncode == 0, done.stdout + done.stderr
    for number, run in zip(sweep.numbers, sweep.runs, strict=True):
        (epochs,) = (each for each in run["overrides"] if each.startswith("epochs="))
        identity = (sweep.directory / str(number) / "wandb_id").read_text()
        assert received()[identity] == [*range(1, int(epochs.partition("=")[2]) + 1)]
