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
        ("mypy",),
    ):
        done = pytorch_project.run("python", "-m", *command)
        assert done.returncode == 0, done.stdout + done.stderr


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
