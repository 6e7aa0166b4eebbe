"""The command as it is typed, whatever the task."""

import json
import subprocess
import sys
from pathlib import Path

PACKAGE = "{{ cookiecutter.__package }}"
QUICK: list[str] = []  # what makes a run of yours short, such as "epochs=1"


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", PACKAGE, *words], capture_output=True, text=True)


def test_a_run(tmp_path: Path) -> None:
    ended = command(*QUICK, f"hydra.run.dir='{tmp_path}'")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "COMPLETED"


def test_a_sweep_on_this_machine(tmp_path: Path) -> None:
    two = "signal_policy=checkpoint,ignore"
    ended = command("+setup=local", *QUICK, two, f"hydra.sweep.dir='{tmp_path}'")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 runs: 2 completed" in ended.stdout


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    """With the + that Hydra suggests it would make runs that only look different."""
    ended = command("+setup=local", "+no_such_parameter=1", f"hydra.sweep.dir='{tmp_path}'")
    assert ended.returncode == 1
    assert "has no parameter no_such_parameter" in ended.stderr


def test_help_starts_without_heavy_libraries() -> None:
    """An import at the top of task.py or models.py would hold up every command."""
    program = f"""
import runpy, sys
sys.argv = ["command", "--help"]
try:
    runpy.run_module("{PACKAGE}", run_name="__main__")
finally:
    print("loaded:", *sorted(set(sys.modules).intersection(["wandb", "sklearn", "{{ "torch" if cookiecutter.framework == "pytorch" else "numpy" }}"])))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "hpc_batch" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "loaded:"
