"""The repository for PyTorch: its own tests and its checks pass, on a CPU with Gloo; and it trains on a GPU."""

from pathlib import Path

import pytest
from faults import ALL
from running import Project

from hpc_hydra import read_metrics
from hpc_hydra._ranks import gpus_here

# What the repository itself does not name takes mypy three times as long as all the rest.
NOT_FOLLOWED = """
[[tool.mypy.overrides]]
module = [
    "matplotlib.*", "pandas.*", "plotly.*", "sympy.*", "wandb.*", "torch._decomp.*", "torch._dynamo.*",
    "torch._export.*", "torch._functorch.*", "torch._higher_order_ops.*", "torch._inductor.*",
    "torch._prims.*", "torch._refs.*", "torch._subclasses.*", "torch.ao.*", "torch.distributed.tensor.*",
    "torch.distributions.*", "torch.export.*", "torch.fx.*", "torch.jit.*", "torch.nested.*",
    "torch.onnx.*", "torch.package.*", "torch.profiler.*", "torch.sparse.*", "torch.testing.*",
    "torch.utils._sympy.*",
]
follow_imports = "skip"
"""


def test_its_tests_and_checks(pytorch_project: Project, tmp_path: Path) -> None:
    settings = tmp_path / "pyproject.toml"
    own = (pytorch_project.path / "pyproject.toml").read_text()
    settings.write_text(own if ALL else own + NOT_FOLLOWED)
    # What a task does in a sweep on this machine, others show; each run of it imports PyTorch.
    less = () if ALL else ("--deselect=tests/test_command.py::test_a_sweep_on_this_machine",)
    for command in (
        ("pytest", "--quiet", *less),
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy", "--cache-dir=/dev/null", f"--config-file={settings}"),  # once only
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
