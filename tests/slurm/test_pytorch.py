"""Runs of the repository for PyTorch, alone, packed, and by DDP on two nodes of two ranks, interrupted in every way."""

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster
from conftest import shared_folder
from faults import ALL, ONE_THREAD, Expected, Sweep
from jobs import runs_of, slurm, wait_until
from running import Project
from test_limits_and_preemption import preempt

from hpc_hydra import read_metrics

# In `make test` few processes, since each takes seconds to import PyTorch.
EPOCHS, SEEDS, ALONE = (40, 4, 12) if ALL else (8, 1, 1)
PER_NODE = 2 if ALL else 1  # ranks, on two nodes
#: Samples in a step: of a run alone, and of one with ranks.
BATCHES = {"alone": 32, "ranks": 64 * PER_NODE}
UNDISTURBED = f"""
from functools import partial
from hpc_experiment import models, task
model = partial(models.cnn, dropout=0.0)
for name, batch_size in {BATCHES}.items():
    for seed in range({SEEDS} if name == "alone" else 1):
        epochs = {ALONE} if name == "alone" else {EPOCHS}
        task.train(model, f"{{name}}/{{seed}}", seed=seed, epochs=epochs, batch_size=batch_size)
"""
STOPPED = """
from functools import partial
from itertools import count
from unittest.mock import patch

from hpc_experiment import models, task
from hpc_hydra import pytorch

steps = count()
with patch.object(pytorch, "stop_requested", lambda: next(steps) == 50):
    task.train(partial(models.cnn, dropout=0.0), "run", batch_size=16)
"""
RANKS = ("hydra.launcher.nodes=2", f"hydra.launcher.tasks_per_node={PER_NODE}", f"epochs={EPOCHS}")
PACKED = ("hydra.launcher.tasks_per_node=2", "hydra.launcher.runs_per_job=4", "seed=0,1,2,3")
Metrics = dict[int, dict[str, float]]


def without_time(metrics: Metrics) -> Metrics:
    return {
        step: {name: value for name, value in values.items() if name != "samples_per_s"}
        for step, values in metrics.items()
    }


def nearly(metrics: Metrics, expected: Metrics) -> bool:
    """Four ranks add up in another order than one."""
    return metrics.keys() == expected.keys() and all(
        values == pytest.approx(expected[step], rel=2e-3) for step, values in metrics.items()
    )


@pytest.fixture
def sweep_of(
    pytorch_project: Project,
    cluster: Cluster,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    record_property: Callable[[str, object], None],
) -> Callable[..., Sweep]:
    """Makes sweeps to do faults to: ``sweep_of("alone", *overrides, pace=0.1)``."""
    folder = shared_folder(tmp_path_factory, worker_id) / "undisturbed networks"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            python = pytorch_project.path / ".venv" / "bin" / "python"
            done = Project(folder, ONE_THREAD).run(python, "-c", UNDISTURBED)
            assert done.returncode == 0, done.stderr

    def make(kind: str, *overrides: str, name: str = "sweep", pace: float = 0.1) -> Sweep:
        expected: Expected = {
            int(run.name): without_time(read_metrics(run)) for run in folder.glob(f"{kind}/*")
        }
        sweep = Sweep(
            Project(pytorch_project.path, {**pytorch_project.variables, **cluster.environment}),
            tmp_path / name, ("+setup=hpc_batch", "model=cnn", *overrides), expected,
            lambda row: record_property("fault", [f"PyTorch, {row[0]}", *row[1:]]),
            probe="probe_nets.traced_cnn",
            same=lambda metrics, whole: (
                without_time(metrics) == whole if kind == "alone" else nearly(without_time(metrics), whole)
            ),
        )  # fmt: skip
        sweep.directory.mkdir()
        sweep.set_pace(pace)
        return sweep

    return make


def test_a_preemption(sweep_of: Callable[..., Sweep]) -> None:
    """Of ranks on two nodes."""
    ranks = sweep_of("ranks", *RANKS, pace=0.3)
    with ranks.going_on() as process:
        preempt(ranks)
        wait_until(lambda: ranks.restarts == [1], process)
        ranks.set_pace(0)
        output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    assert all(ranks.steps(0, rank) == ranks.steps(0) for rank in range(2 * PER_NODE))
    ranks.tell(f"2 nodes x {PER_NODE} ranks: preemption", 1)


@pytest.mark.long
def test_a_time_limit_and_a_preemption(sweep_of: Callable[..., Sweep]) -> None:
    limit = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30")
    ranks = sweep_of("ranks", *RANKS, *limit, name="ranks", pace=0.3)
    packed = sweep_of("alone", *PACKED, "epochs=12", name="packed", pace=0.5)
    processes = [ranks.start(), packed.start()]
    try:
        wait_until(lambda: ranks.restarts == [1], processes[0], seconds=200)
        # Else a busy machine does not get as far as the first step in it.
        slurm(ranks.project, "scontrol", "update", f"jobid={ranks.job}_0", "TimeLimit=30")
        before = len(ranks.steps(0))
        wait_until(lambda: len(ranks.steps(0)) > before and packed.has_begun(3, 1), processes[0])
        preempt(ranks)
        wait_until(lambda: ranks.restarts == [2] and packed.restarts[:2] == [1, 1])
        for sweep in (ranks, packed):
            sweep.set_pace(0)
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all(ranks.steps(0, rank) == ranks.steps(0) for rank in range(4))
    ranks.tell("2 nodes x 2 ranks: time limit, then preemption", 2)
    packed.tell("packed job: preemption", 1)


def test_a_kill_while_a_checkpoint_is_written(sweep_of: Callable[..., Sweep]) -> None:
    sweep = sweep_of("alone", "epochs=1", "save_every_s=1", "+model.heavy_mib=300")
    drafts = (sweep.directory / "0").glob
    with sweep.going_on() as process:
        wait_until(lambda: list(drafts("checkpoint_*.ckpt")), process)
        wait_until(lambda: list(drafts(".*checkpoint_*")), process)
        os.kill(runs_of(sweep.directory)[0], signal.SIGKILL)
        process.communicate(timeout=120)
    assert list(drafts(".*checkpoint_*"))
    sweep.set_pace(0)
    done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(drafts(".*checkpoint_*"))
    sweep.tell("kill while a checkpoint is written, saved each second; then repeated", 1, 40)


@pytest.mark.long
def test_another_number_of_ranks_goes_on(pytorch_project: Project, tmp_path: Path) -> None:
    """In the middle of an epoch, with the samples that are left of it."""
    here = Project(tmp_path, pytorch_project.variables)
    python = pytorch_project.path / ".venv" / "bin" / "python"
    assert here.run(python, "-c", STOPPED).returncode == 0
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    options = ("model=cnn", "batch_size=16", "epochs=2", "hydra.run.dir=run")
    done = here.run(python, *torchrun, "-m", "hpc_experiment", *options)
    assert done.returncode == 0, done.stderr
    assert list(read_metrics(tmp_path / "run")) == [1, 2]
    # Of 1347 samples 800 were done: two ranks do the others in 17 steps, and the next epoch in 42.
    assert list((tmp_path / "run").glob("checkpoint_109-*"))


@pytest.mark.long
def test_ranks(sweep_of: Callable[..., Sweep], cluster: Cluster) -> None:
    """Signalled while they start, one of them alone, one killed, all cancelled, and a node that dies."""
    sweep = sweep_of("ranks", *RANKS, "save_every_s=1")
    log = Path(f"{sweep.directory}/jobs").glob
    with sweep.start() as process:
        wait_until(lambda: list(log("*_0_log.out")), process)
        slurm(sweep.project, "scancel", "--signal=USR1", f"{sweep.job}_0")
        wait_until(lambda: sweep.runs and sweep.has_begun(2, 0), process)
        os.kill(sorted(runs_of(sweep.directory))[-1], signal.SIGUSR1)
        before = sweep.restarts[0]
        wait_until(lambda: sweep.restarts[0] > before, process)
        assert all(sweep.steps(0, rank) == sweep.steps(0) for rank in range(4))
        begun = len(sweep.steps(0))
        wait_until(lambda: len(sweep.steps(0)) > begun + 20, process)
        os.kill(sorted(runs_of(sweep.directory))[-1], signal.SIGKILL)
        assert process.wait(240) == 1
    begun = len(sweep.steps(0))
    with sweep.going_on(step=max(sweep.steps(0)) + 20) as process:
        slurm(sweep.project, "scancel", sweep.job)
        assert process.wait(240) == 1
    cluster.configure(SlurmdTimeout=5)
    try:
        with sweep.going_on(step=max(sweep.steps(0)) + 20) as process:
            query = ("--noheader", "--format=%B", f"--jobs={sweep.job}")
            node = slurm(sweep.project, "squeue", *query).strip()
            cluster.kill(node)
            assert cluster.kill_jobs_of(node)
            before = sweep.restarts[0]
            wait_until(lambda: sweep.restarts[0] > before, process)
            sweep.set_pace(0)
            assert process.wait(120) == 0
    finally:
        cluster.configure(SlurmdTimeout=300)
        cluster.restart(*cluster.down)
    sweep.tell(
        "2 nodes x 2 ranks: signalled at the start, one signalled, one killed, scancel, a node dies",
        5,
        60,
    )
