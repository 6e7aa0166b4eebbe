"""The command as it is typed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.__package }} import configs, models, task
from {{ cookiecutter.__package }}.hpc import command_line

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]


# The command in a repository whose cluster.py has another OUTPUT_DIR.
PROGRAM = """
from {{ cookiecutter.__package }} import cluster
cluster.OUTPUT_DIR = {output_dir!r}
from {{ cookiecutter.__package }}.__main__ import main
main()
"""


def record(path: Path) -> Any:
    return json.loads(path.read_text())


def test_help_starts_without_heavy_libraries() -> None:
    program = """
import runpy, sys

from {{ cookiecutter.__package }} import configs, models, task
from {{ cookiecutter.__package }}.hpc import command_line
sys.argv = ["command", "--help"]
try:
    runpy.run_module("{{ cookiecutter.__package }}", run_name="__main__")
finally:
    print("loaded:", *sorted({"wandb", "sklearn", "numpy", "matplotlib", "submitit"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "hpc_batch" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize("flag", [[], ["--multirun"]])
def test_a_sweep_over_presets_is_refused(command: Command, flag: list[str]) -> None:
    ended = command(*flag, "+setup=hpc_batch,local", "lr=0.1")
    assert ended.returncode == 1
    assert "a command line has one preset" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "+setup=local lr=1,2",
        "-m +setup=local lr=1,2",
        "+setup=local -m lr=1,2",
        "lr=1,2 --multirun",
    ],
)
def test_multirun_may_stand_anywhere_or_be_left_out(arguments: str) -> None:
    overrides = [word for word in arguments.split() if "=" in word]
    assert command_line.prepared(arguments.split()) == [*overrides, "--multirun"]


def test_an_added_parameter_that_the_task_lacks_is_refused(command: Command) -> None:
    """Hydra suggests the + for any unknown name; ignored, it would make runs that only look different."""
    ended = command("+learning_rate=1")
    assert ended.returncode == 1
    assert "train() has no parameter learning_rate" in ended.stderr


@pytest.mark.parametrize("preset", ["+setup=local", "lr=0.1"])
def test_no_place_for_outputs(preset: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(output_dir=f"{tmp_path}/file"), preset],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("OUTPUT_DIR in cluster.py: ")
    assert "Not a directory" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("preset", ["+setup=local", "lr=0.1"])
def test_an_output_dir_below_an_unset_variable(preset: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(output_dir="$NOT_SET/x"), preset],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr == "cluster.py: $NOT_SET is not set: export it\n"
    assert len(ended.stderr.splitlines()) == 1


def test_with_a_preset_a_wrong_choice_is_what_is_complained_of(command: Command) -> None:
    """Without --multirun Hydra would say that the comma needs it."""
    ended = command("+setup=local", "model=nonsense", "lr=1,2")
    assert ended.returncode == 1
    assert "Could not find 'model/nonsense'" in ended.stderr


def test_the_launcher_can_be_looked_at_and_changed(command: Command) -> None:
    ended = command(
        "+setup=hpc_batch", "hydra.launcher.timeout_min=60",
        "+hydra.launcher.additional_parameters.nodelist=node1",
        "--cfg", "all", "-p", "hydra.launcher",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "timeout_min: 60" in ended.stdout
    assert "nodelist: node1" in ended.stdout


def test_an_unknown_signal_policy_is_refused(command: Command) -> None:
    ended = command("signal_policy=nonsense")
    assert ended.returncode == 1
    assert "expected one of [checkpoint, ignore]" in ended.stderr


def test_tab_completes_presets() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "{{ cookiecutter.__package }}", "-sc", "query=bash"],
        env={**os.environ, "COMP_LINE": "{{ cookiecutter.project_slug }} +setup=hpc_"},
        capture_output=True,
        text=True,
    )
    assert {"+setup=hpc_batch", "+setup=hpc_debug"} <= set(ended.stdout.split())


def test_one_run_of_a_sweep_fails_and_the_others_do_not(command: Command, tmp_path: Path) -> None:
    options = ("model=logistic", "lr=0.1,-1", "epochs=1", "-m")
    ended = command("+setup=local", *options, FORCE_COLOR="1")  # as on a terminal
    sweep = tmp_path / "sweep"
    assert ended.returncode == 1
    assert "1 of 2 runs did not complete" in ended.stderr
    assert "Error executing job" not in ended.stderr  # Hydra's words, after all has been said
    assert re.search(r"\d of 2: \d pending, \d running, \d done, \d failed", ended.stderr)
    assert "run 1 failed: " in ended.stderr
    assert "run 1 failed" in ended.stdout

    completed, failed = (record(sweep / number / "run.json") for number in "01")
    assert completed["state"] == "COMPLETED"
    assert completed["result"] > 0.5
    assert failed["state"] == "FAILED"
    assert "InvalidParameterError" in failed["error"]

    runs = record(sweep / "sweep.json")["runs"]
    assert [run["overrides"][2] for run in runs] == ["lr=0.1", "lr=-1"]
    log = sweep / runs[1]["log"]
    assert f"log: {log}" in ended.stdout
    assert "InvalidParameterError" in log.read_text()
    assert (sweep / "0" / f"{configs.NAME}.log").exists()


def test_the_command_again_does_what_is_left(command: Command, tmp_path: Path) -> None:
    """Results of complete runs come from their records, even if that is all that is left of them."""
    options = ("+setup=local", "model=logistic", "lr=0.1,0.01", "epochs=1")
    assert command(*options).returncode == 0
    sweep = tmp_path / "sweep"
    shutil.rmtree(sweep / "1")
    for path in (sweep / "jobs").glob("run_*"):
        path.unlink()
    again = command(*options)
    assert again.returncode == 0, again.stderr
    assert "1 to submit" in again.stdout
    records = [record(sweep / number / "run.json") for number in "01"]
    assert [each["state"] for each in records] == ["COMPLETED", "COMPLETED"]
    assert records[0]["end"] <= records[1]["start"]

    changed = command(*options[:-1], "epochs=2")
    assert changed.returncode == 1
    assert "has a sweep of other overrides" in changed.stderr


def end_group(leader: int) -> None:
    """Whatever a failed test has left running."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def test_a_run_that_is_requeued_then_stopped_ends_with_the_same_result(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """submitit's local executor warns and requeues like Slurm; Ctrl-C in a terminal stops it."""
    sweep, run = tmp_path / "sweep", tmp_path / "sweep" / "0"
    options = ["signal_policy=checkpoint", f"hydra.sweep.dir='{sweep}'"]
    arguments = ["+setup=local", "model=logistic", "epochs=150", *options]
    sweeping = subprocess.Popen(
        [sys.executable, "-m", "{{ cookiecutter.__package }}", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    request.addfinalizer(lambda: end_group(sweeping.pid))

    def wait_for_epoch(number: int) -> None:
        while len((run / "metrics.csv").read_text().splitlines()) <= number:
            assert sweeping.poll() is None
            time.sleep(0.02)

    while not (run / "metrics.csv").exists():
        assert sweeping.poll() is None
        time.sleep(0.02)
    os.kill(process_of(sweep), signal.SIGUSR2)
    while record(run / "run.json")["restarts"] == 0:
        assert sweeping.poll() is None
        time.sleep(0.02)
    wait_for_epoch(len((run / "metrics.csv").read_text().splitlines()))

    os.killpg(sweeping.pid, signal.SIGINT)  # what a terminal does
    complaints = sweeping.communicate(timeout=60)[1]
    assert sweeping.returncode == 130
    assert "Traceback" not in complaints
    assert f"hydra.sweep.dir={sweep}" in complaints
    assert record(run / "run.json")["state"] == "STOPPED"
    assert len((run / "metrics.csv").read_text().splitlines()) < 1 + 150

    resumed = task.train(models.logistic, run, epochs=150)
    assert resumed == task.train(models.logistic, tmp_path / "whole", epochs=150)


def process_of(sweep: Path) -> int:
    """The process that supervises the sweep's only run."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{sweep}/jobs/submission_0.pkl" in path.read_text().split("\0"):
                parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(path.parent.name)] = int(parent)
    (supervisor,) = (process for process, parent in found.items() if parent not in found)
    return supervisor
