"""The tasks of docs/trainers.md, where their trainers are installed beside the tests."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from running import TEMPLATE, Project

HEAD = """
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .data import digits

Model = Callable[..., Any]
"""
# A whole run, and one that is stopped at steps in the middle and at the ends of its epochs of 42.
TRY = """
from itertools import count
from unittest.mock import patch

from hpc_experiment import models, task
from hpc_hydra import pytorch, read_metrics

whole = task.train(models.mlp, "whole", epochs=3)
asked = count(1)
with patch.object(pytorch, "stop_requested", lambda: next(asked) in (11, 43, 54, 97)):
    stopped = [task.train(models.mlp, "parts", epochs=3) for _ in range(4)]
    assert stopped == [None] * 4, stopped
    assert task.train(models.mlp, "parts", epochs=3) == whole > 0.8
assert read_metrics("parts") == read_metrics("whole")
assert len(open("parts/metrics.jsonl").readlines()) == 3
"""


@pytest.mark.parametrize("trainer", ["lightning", "accelerate"])
def test_resumed_equals_uninterrupted(
    trainer: str, pytorch_project: Project, tmp_path: Path
) -> None:
    if not find_spec(trainer):
        pytest.skip(f"needs {trainer} in the tests' environment")
    page = (TEMPLATE / "docs" / "trainers.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (task,) = (block for block in blocks if f"\n    from {trainer}" in block)
    shutil.copytree(pytorch_project.path / "src", tmp_path / "src")
    # Workers ask for the order of the data before a trainer that goes on has said which epoch it is.
    task, loaders = re.subn(r"(DataLoader\(.*drop_last=True)", r"\1, num_workers=1", task)
    assert loaders == 1
    (tmp_path / "src" / "hpc_experiment" / "task.py").write_text(HEAD + task)
    done = Project(tmp_path, {**pytorch_project.variables, "PYTHONPATH": "src"}).run(
        pytorch_project.path / ".venv" / "bin" / "python", "-c", TRY
    )
    assert done.returncode == 0, done.stdout + done.stderr
