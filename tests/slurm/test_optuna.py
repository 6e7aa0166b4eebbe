"""A sweeper that asks for runs in batches, each after the results of the one before: Hydra's for Optuna."""

from pathlib import Path

import pytest
import yaml
from jobs import accounting, record
from running import TOOLS, Project, packages
from test_sweeps import sweep

SWEEP = ("+setup=hpc_batch", "hydra/sweeper=optuna", "model=logistic", "epochs=1")


@pytest.fixture
def with_optuna(on_slurm: Project, tmp_path: Path) -> Project:
    """With the sweeper, and with what it needs, outside of the environment, which other tests use."""
    prefix = tmp_path / "optuna"
    done = on_slurm.run(
        TOOLS / "uv", "pip", "install", "--quiet", f"--prefix={prefix}", "hydra-optuna-sweeper",
        "hydra-core<1.4",  # its requirement has a pre-release in it
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Project(
        on_slurm.path,
        {**on_slurm.variables, "PYTHONPATH": f"{packages(prefix)}:{on_slurm.path}/src"},
    )


def test_batches(with_optuna: Project, tmp_path: Path) -> None:
    """Each is an array, a trial that fails is told to Optuna, and no batch is left alone."""
    folder = tmp_path / "sweep"
    done = sweep(with_optuna, folder, *SWEEP, "lr=choice(0.1,0.01)", "hydra.launcher.wait=false")
    assert done.returncode == 1
    assert (
        "hydra.launcher.wait=false: the sweeper optuna needs the results of its runs" in done.stderr
    )
    assert not folder.exists()

    done = sweep(
        with_optuna, folder, *SWEEP, "lr=choice(0.3,0.1,0.03,0.01,0.003,-1)",
        "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=9",  # of these -1 once
        "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3",
        "hydra.sweeper.direction=maximize", "hydra.sweeper.max_failure_rate=0.5",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    about = record(folder / "sweep.json")
    assert [each["total"] for each in about["submissions"]] == [None, None]  # Optuna decides
    jobs = [run["job_id"] for run in about["runs"]]
    arrays = [job.partition("_")[0] for job in (jobs[0], jobs[3])]
    assert jobs == [f"{array}_{element}" for array in arrays for element in range(3)]

    runs = [record(folder / str(number) / "run.json") for number in range(6)]
    states = [run["state"] for run in runs]
    assert sorted(states) == ["COMPLETED"] * 5 + ["FAILED"]
    assert "lr=-1" in runs[states.index("FAILED")]["overrides"]
    rows = [row for array in arrays for row in accounting(with_optuna, array, 3)]
    assert [row["State"] for row in rows] == states

    best = max(runs, key=lambda run: run["result"] or 0)
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert found["best_value"] == best["result"]
    assert f"lr={found['best_params']['lr']}" in best["overrides"]
