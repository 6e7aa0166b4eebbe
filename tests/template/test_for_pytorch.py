"""The repository for PyTorch: its own tests and its checks pass, on a CPU with Gloo; and it trains on a GPU."""

from pathlib import Path

import pytest
from running import Project

from hpc_hydra import read_metrics
from hpc_hydra._ranks import gpus_here


def test_its_tests_and_checks(pytorch_project: Project) -> None:
    for command in (
        ("pytest", "--quiet"),
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy", "--cache-dir=/dev/null"),  # once only
    ):
        done = pytorch_project.run("python", "-m", *command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_more_samples_at_a_time_than_there_are(pytorch_project: Project, tmp_path: Path) -> None:
    """A run that trains nothing has not completed."""
    done = pytorch_project.run(
        "python", "-m", "hpc_experiment", "batch_size=5000", f"hydra.run.dir={tmp_path}"
    )
    assert done.returncode == 1 and "batch_size=5000: each rank has 1347 samples" in done.stderr


@pytest.mark.skipif(not gpus_here(), reason="needs a GPU")
def test_one_gpu(pytorch_project: Project, tmp_path: Path) -> None:
    """The loss goes down, in bfloat16 where the GPU has it, and its memory is logged."""
    done = pytorch_project.run(
        "python", "-m", "hpc_experiment", "model=cnn", f"hydra.run.dir={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0 of 1 on cuda:0" in done.stdout
    metrics = list(read_metrics(tmp_path).values())
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"] / 2
    assert metrics[-1]["valid_accuracy"] > 0.9
    assert all(each["gpu_memory_mib"] > 0 for each in metrics)
