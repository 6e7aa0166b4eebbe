"""What is proposed on real clusters of several shapes, and that such a cluster takes it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from jobs import accounting, slurm
from running import LIGHT, Project, cookiecutter, run
from shapes import TYPED, UNHELPFUL, WITHOUT_GPUS
from test_generation import PROJECT, facts

pytestmark = pytest.mark.usefixtures("slurm_installed")


def answers(cluster: Cluster, cwd: Path, *given: str) -> dict[str, Any]:
    """The facts of a project that is generated on the cluster's login node."""
    variables = {"HPC_HYDRA_PLAIN_DEFAULTS": "", **cluster.environment}
    done = cookiecutter("--no-input", "-f", LIGHT, *given, cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    return facts(cwd / PROJECT)


def test_types_of_gpu(tmp_path: Path) -> None:
    with Cluster(shape=TYPED) as cluster:
        assert (
            answers(cluster, tmp_path).items()
            >= {
                "GPU_PARTITION": "ampere",
                "GPUS_PER_NODE": 8,
                "GPU_REQUEST": "gres=gpu:a100:{n} cpus-per-task={n} mem={3n}G",
                "GPU_TYPES": {
                    "a100_1g.5gb": (
                        4,
                        "partition=ampere gres=gpu:a100_1g.5gb:{n} cpus-per-task={n} mem={5n}G",
                    ),
                    "v100": (2, "partition=volta gres=gpu:v100:{n} cpus-per-task={4n} mem={15n}G"),
                },
                "GPU_SBATCH": "",
                "CPU_PARTITION": "cpu-only",
                "CPU_SBATCH": "time=2:00:00",
                "ACCOUNT": "lab",
            }.items()
        )
        assert (
            answers(cluster, tmp_path, "gpu_partition=volta").items()
            >= {
                "GPUS_PER_NODE": 2,
                "GPU_REQUEST": "gres=gpu:v100:{n} cpus-per-task={4n} mem={15n}G",
                "GPU_SBATCH": "time=20:00",
            }.items()
        )


def test_without_gpus(tmp_path: Path) -> None:
    with Cluster(shape=WITHOUT_GPUS) as cluster:
        variables = {"HPC_HYDRA_PLAIN_DEFAULTS": "", **cluster.environment}
        cookiecutter("--no-input", LIGHT, cwd=tmp_path, **variables)
    (replay,) = (tmp_path / ".cookiecutter_replay").iterdir()
    given = json.loads(replay.read_text())["cookiecutter"]
    assert (given["gpu_partition"], given["gpus_per_node"]) == ("", "0")
    assert (given["cpu_partition"], given["account"]) == ("work", "lab")


def test_names_that_tell_nobody(tmp_path: Path) -> None:
    with Cluster(shape=UNHELPFUL) as cluster:
        found = answers(cluster, tmp_path)
        assert (found["GPU_PARTITION"], found["CPU_PARTITION"]) == ("reef", "lake")
        assert (found["GPUS_PER_NODE"], found["ACCOUNT"]) == (2, "ocean")
        # With the CPUs and the memory that go with all GPUs of a node.
        request = re.sub(
            r"\{(\d*)n\}", lambda each: str(int(each[1] or 1) * 2), found["GPU_REQUEST"]
        )
        submitted = run(
            "sbatch", "--parsable", "--wrap=true", "--output=/dev/null", *(f"--{option}" for option in request.split()),
            f"--partition={found['GPU_PARTITION']}", f"--account={found['ACCOUNT']}",
            cwd=tmp_path, **cluster.environment,
        )  # fmt: skip
        assert submitted.returncode == 0, submitted.stderr
        job = submitted.stdout.strip()
        on_slurm = Project(tmp_path, cluster.environment)
        (row,) = accounting(on_slurm, job)
        # sacct may not name the partition of so short a job.
        record = slurm(on_slurm, "scontrol", "show", "job", job)
    assert (row["State"], row["Account"]) == ("COMPLETED", "ocean")
    assert "gres/gpu=2" in row["AllocTRES"]
    assert "Partition=reef" in record
