"""A real cluster takes what the sites' dialects say, and the runs work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from jobs import accounting, job_of, job_script, record
from running import LIGHT, Project, cookiecutter, make_quick
from shapes import DIALECT


@pytest.fixture(scope="module")
def cluster(slurm_installed: None) -> Iterator[Cluster]:
    with Cluster(shape=DIALECT) as running:
        yield running


def sweep(project: Project, cluster: Cluster, folder: Path, preset: str, **answers: str) -> Project:
    """Sweep in a repository with these answers, which uses the environment of another one."""
    commands = [
        answers.pop("first_commands", "true"),
        f"export SLURM_CONF={cluster.directory}/slurm.conf",
        f"export PYTHONPATH={folder}/hpc-experiment/src",
    ]
    context = {"setup_commands": "\n".join(commands), "python": f"{project.path}/.venv"}
    (folder / "site.yaml").write_text(yaml.safe_dump({"default_context": {**context, **answers}}))
    done = cookiecutter("--no-input", "--config-file", "site.yaml", LIGHT, cwd=folder)
    assert done.returncode == 0, done.stderr
    make_quick(folder / "hpc-experiment")
    source = {"PYTHONPATH": f"{folder}/hpc-experiment/src", "PROJECT_ACCOUNT": "ocean", "LEAK": "1"}
    variables = {**cluster.environment, **source, "WANDB_MODE": "disabled"}
    user = Project(project.path, variables)
    ended = user.run(
        "python", "-m", "hpc_experiment", f"+setup={preset}", "epochs=1", f"hydra.sweep.dir={folder}/sweep"
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert record(folder / "sweep" / "0" / "run.json")["state"] == "COMPLETED"
    return user


def test_tasks_on_srun_only(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    """With QoS, an account for GPU jobs, a GPU type with dots, and a constraint of two features."""
    user = sweep(
        project, cluster, tmp_path, "hpc_debug",
        gpu_request="gpus=a100_1g.5gb:{n}",
        account="ocean",
        gpu_sbatch='account=ocean-gpu qos=gpu-shd constraint="a100&80gb" nodes= ntasks-per-node= '
        "srun:ntasks=1 srun:cpus-per-task=1 debug:qos=dev",
    )  # fmt: skip
    job = job_of(tmp_path / "sweep")
    (row,) = accounting(user, job)
    assert (row["State"], row["Account"], row["QOS"]) == ("COMPLETED", "ocean-gpu", "dev")
    assert "gres/gpu=1" in row["AllocTRES"]
    header = job_script(user, job).partition("# setup")[0]
    assert "--nodes" not in header and "--ntasks" not in header


def test_nothing_exported_and_a_login_shell(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    """And the whole node, without hyperthreads, for an account that the submitter's environment names."""
    user = sweep(
        project, cluster, tmp_path, "hpc_batch",
        first_commands='#!/bin/bash -l\ntest -z "$LEAK" || exit 7\nshopt -q login_shell || exit 8',
        account="$PROJECT_ACCOUNT",
        cpu_sbatch="export=NONE exclusive hint=nomultithread mem=0",
    )  # fmt: skip
    (row,) = accounting(user, job_of(tmp_path / "sweep"))
    assert (row["State"], row["Partition"], row["Account"]) == ("COMPLETED", "cpu", "ocean")
    assert "cpu=8" in row["AllocTRES"]
