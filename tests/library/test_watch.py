"""What a supervisor sees of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_hydra import _records as records
from hpc_hydra import _resources as resources
from hpc_hydra._job.watch import Watch

from .using import record

FAMILY = """
import subprocess, sys
hold = [sys.executable, "-c", "import time; kept = b'x' * 100_000_000; time.sleep(2.5)"]
for each in [subprocess.Popen(hold) for _ in range(2)]:
    each.wait()
"""
NVIDIA_SMI = """\
#!/bin/sh
echo "GPU-a1, 0, 9000, 99, Tesla V100"
echo "GPU-b2, 1, 3000, 40, NVIDIA A100-SXM4-80GB"
"""


def test_memory_of_all_processes_of_a_run_and_its_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data loader's workers count: a job that asks for less than all of them need would be killed. GPUs
    are those of the run, which a stand-in for nvidia-smi tells here."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    known = {
        "job_id": "7_0",
        "attempts": [{"start": "2026-01-31T10:00:00+00:00"}, {"max_rss_mib": 110}],
    }
    records.write(tmp_path / records.RUN, known)
    watch = Watch()
    family = subprocess.Popen([sys.executable, "-c", FAMILY])
    status, usage = watch.until_end_of(family.pid)
    assert (status, usage.ru_maxrss > 90_000) == (0, True)
    watch.record(tmp_path, "8_0")  # of another job
    assert record(tmp_path)["attempts"] == known["attempts"]
    watch.record(tmp_path, "7_0")
    earlier, last = record(tmp_path)["attempts"]
    assert [earlier] == known["attempts"][:1]
    assert 190 < last.pop("memory_mib") < 500
    gpu = {"gpu": "NVIDIA A100-SXM4-80GB", "gpu_memory_mib": 3000, "gpu_percent": 40}
    assert last == {"max_rss_mib": 110, **gpu}


def test_ranks_that_share_what_a_job_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether Slurm says so, or each looks alone."""
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "4(x2),1")
    assert resources.asked() == {"cpus": 8, "tasks_per_node": 4}
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "1")
    assert resources.asked() == {"cpus": 8}
    monkeypatch.setattr(resources, "sharing", 2)
    assert resources.asked() == {"cpus": 8, "tasks_per_node": 2}
