"""What a run used, as its record has it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_hydra._job import usage

from .using import ONE_PROCESS, App, record

FAMILY = """
import subprocess, sys
hold = [sys.executable, "-c", "import time; kept = b'x' * 100_000_000; time.sleep(2.5)"]
for each in [subprocess.Popen(hold) for _ in range(2)]:
    each.wait()
"""
NVIDIA_SMI = """\
#!/bin/sh
echo "GPU-a1, 0, 9000, 99"
echo "GPU-b2, 1, 3000, 40"
"""


def test_each_attempt_of_a_run_has_what_it_used(zen_app: App) -> None:
    """A failed one too, and the one that was before it."""
    for tries in (1, 2):
        zen_app("+setup=local", ONE_PROCESS, "model=logistic", "lr=0.1,-1")
        # It is recorded after the command has learned of the end.
        while len(record(zen_app.sweep / "1")["attempts"]) < tries:
            time.sleep(0.02)
    completed, failed = (record(zen_app.sweep / number) for number in "01")
    assert len(completed["attempts"]) == 1
    for attempt in (*completed["attempts"], *failed["attempts"]):
        assert 10 < attempt["peak_memory_mb"] < 1000
        assert 0 < attempt["cpu_s"] < 60 and attempt["wall_s"] > 0
        assert attempt["asked"] == {}  # there is no Slurm
    assert failed["attempts"][1]["job_id"] == failed["job_id"] != failed["attempts"][0]["job_id"]


def test_memory_is_that_of_all_processes_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data loader's workers count: a job that is given less would be killed. And GPUs are those of the
    run, which a stand-in for nvidia-smi tells here."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    family = subprocess.Popen([sys.executable, "-c", FAMILY])
    used = usage.Usage({"gpus": 1})
    assert used.watch(family.pid) == 0
    found = used.record()
    assert 190 < found["peak_memory_mb"] < 500
    assert (found["peak_gpu_memory_mb"], found["gpu_percent"]) == (3000, 40)


def test_what_slurm_was_asked_for() -> None:
    assert usage.asked({"SLURM_CPUS_PER_TASK": "8", "SLURM_MEM_PER_NODE": "40960"}) == {
        "cpus_per_task": 8, "memory_mb": 40960
    }  # fmt: skip
    shared = {"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "8"}
    several = {"SLURM_TASKS_PER_NODE": "4(x2),1", "SLURM_GPUS_ON_NODE": "4"}
    assert usage.asked({**shared, **several}) == {
        "cpus": 8, "memory_mb": 800, "tasks_per_node": 4, "gpus": 4
    }  # fmt: skip
