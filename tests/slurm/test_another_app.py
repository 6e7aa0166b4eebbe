"""A Hydra app that knows nothing of the template, in an environment of its own: `pip install hpc-hydra`
and two overrides give it what the README promises."""

import fcntl
import json
import re
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster
from conftest import shared_folder
from jobs import accounting, job_of, record, slurm, wait_until
from running import TEMPLATE, Ended, Project, run, virtual_environment

APP = """\
import hydra
from hpc_hydra import checkpoints, log_metrics, stop_requested
from hydra.core.hydra_config import HydraConfig
from pathlib import Path
import time


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    directory = Path(HydraConfig.get().runtime.output_dir)
    step = checkpoints.newest(directory) or 0
    while step < config.steps:
        step += 1
        time.sleep(config.pace)
        log_metrics({"value": step / config.x}, step)
        checkpoints.save(directory, step, step)
        if step < config.steps and stop_requested():
            return None
    return {"name": config.model.name, "value": config.model.value / config.x}


main()
"""
CONF = {
    "config.yaml": """\
defaults:
  - model: small
  - _self_
  - override hydra/launcher: hpc_slurm
  - override hydra/sweeper: hpc
x: 1
steps: 1
pace: 0
hydra:
  launcher: {partition: cpu, timeout_min: 5}
""",
    "model/small.yaml": "{name: small, value: 1}",
    "model/large.yaml": "{name: large, value: 4}",
}


@pytest.fixture
def app(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, worker_id: str, tmp_path: Path
) -> Project:
    """Its folder, in git, and an environment with hpc-hydra alone."""
    venv = shared_folder(tmp_path_factory, worker_id) / "another app"
    with Path(f"{venv}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not venv.exists():
            virtual_environment(venv, TEMPLATE)
    folder = tmp_path / "app"
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / ".venv").symlink_to(venv)
    (folder / ".gitignore").write_text(".venv\nmultirun\nsweep\n")
    for name, text in CONF.items():
        (folder / "conf" / name).write_text(text)
    for git in ("init", "add .", "commit --message=first"):
        assert run("git", *git.split(), cwd=folder).returncode == 0
    return Project(folder, cluster.environment)


def sweep(app: Project, *overrides: str) -> Ended:
    return app.run("python", "app.py", "--multirun", "hydra.sweep.dir=sweep", *overrides)


def test_a_run_that_fails_and_the_command_again(app: Project) -> None:
    done = sweep(app, "x=1,0,4", "model=small,large", "hydra.launcher.array_parallelism=3")
    assert done.returncode == 1
    assert "2 of 6 runs did not complete" in done.stderr and "Traceback" not in done.stderr
    folder = app.path / "sweep"
    runs = [record(folder / str(number) / "run.json") for number in range(6)]
    assert [run["state"] for run in runs] == ["COMPLETED"] * 2 + ["FAILED"] * 2 + ["COMPLETED"] * 2
    assert runs[5]["result"] == {"name": "large", "value": 1}
    assert "ZeroDivisionError" in runs[2]["error"] and runs[2]["start"] <= runs[2]["end"]
    states = [row["State"] for row in accounting(app, job_of(folder), 6)]
    assert states == [run["state"] for run in runs]
    table = re.findall(r" (x=\d) (model=\w+) +([A-Z]+)", done.stdout)
    assert table[2:4] == [("x=0", "model=small", "FAILED"), ("x=0", "model=large", "FAILED")]
    assert "run 2 and 1 more failed: ZeroDivisionError" in done.stdout

    # The copy of the source, commit and diff are those that each run has really had.
    source = app.path / "app.py"
    source.write_text(source.read_text().replace("/ config.x", "/ (config.x or 2)"))
    again = sweep(app, "x=1,0,4", "model=small,large", "hydra.launcher.array_parallelism=3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 to submit" in again.stdout
    runs = [record(folder / str(number) / "run.json") for number in range(6)]
    assert [run["source"] for run in runs] == ["source"] * 2 + ["source_2"] * 2 + ["source"] * 2
    assert [run["git_diff"] for run in runs[1:3]] == [None, "jobs/submission_1.diff"]
    assert runs[3]["result"] == {"name": "large", "value": 2}
    assert run("git", "stash", cwd=app.path).returncode == 0
    assert run("git", "apply", folder / runs[2]["git_diff"], cwd=app.path).returncode == 0
    assert "or 2" in source.read_text()


def test_packed_and_not_waited_for(app: Project) -> None:
    """And edited while it waits in the queue: jobs run what was submitted, its config files included."""
    packing = ("hydra.launcher.runs_per_job=4", "hydra.launcher.tasks_per_node=2")
    hold = "+hydra.launcher.additional_parameters.hold=true"
    done = sweep(app, "x=range(1,9)", *packing, "hydra.launcher.wait=false", hold)
    assert done.returncode == 0, done.stdout + done.stderr
    (app.path / "conf" / "model" / "small.yaml").write_text("{name: small, value: 7}")
    slurm(app, "scontrol", "release", job_of(app.path / "sweep"))
    status = app.run("hpc", "status")
    assert status.returncode == 0 and "8 runs:" in status.stdout
    again = sweep(app, "x=range(1,9)", *packing)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "0 to submit" in again.stdout and "8 runs: 8 completed" in again.stdout
    assert len(accounting(app, job_of(app.path / "sweep"), 2)) == 2
    assert record(app.path / "sweep" / "0" / "run.json")["result"]["value"] == 1


def test_a_node_that_lacks_a_library(app: Project) -> None:
    """Its ranks say so of their runs, but not of one that another rank is doing."""
    (app.path / "helper.py").write_text(
        "import os, pathlib, time\n"
        "while os.environ.get('SLURMD_NODENAME') == 'node2':\n"
        "    time.sleep(0.1)\n"
        "    if pathlib.Path('sweep/1/run.json').exists():\n"
        "        raise ImportError('libfoo.so')\n"
    )
    source = app.path / "app.py"
    task = source.read_text().replace("    step = ", "    helper.__name__\n    step = ", 1)
    source.write_text(f"import helper\n{task}")
    packing = (
        "hydra.launcher.runs_per_job=4",
        "hydra.launcher.nodes=2",
        "hydra.launcher.exclude='node[3-4]'",
    )
    done = sweep(app, "x=1,2,3,4", "pace=3", *packing)
    assert "1 of 4 runs did not complete" in done.stderr, done.stdout + done.stderr
    assert "no result but that of run.json" not in done.stdout
    folder = app.path / "sweep"
    states = [record(folder / str(number) / "run.json")["state"] for number in range(4)]
    assert states == ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]


def test_a_signal_stops_it_at_a_checkpoint_and_it_goes_on(app: Project) -> None:
    """Also where the setup commands have a trap of their own for the end of the job, and are strict."""
    folder = app.path / "sweep"
    command = [
        f"{app.path}/.venv/bin/python",
        "app.py",
        "-m",
        "hydra.sweep.dir=sweep",
        "steps=12",
        "pace=0.5",
        "hydra.launcher.setup=[set -euo pipefail, \"IFS=$'\\n\\t'\", \"trap 'echo mine >> trapped' EXIT\"]",
    ]
    process = subprocess.Popen(
        command, cwd=app.path, env=app.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        metrics = folder / "0" / "metrics.jsonl"
        wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
        slurm(app, "scancel", "--signal=TERM", job_of(folder))
        wait_until(lambda: record(folder / "0" / "run.json").get("restarts") == 1, process)
        output = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 13))
    assert (app.path / "trapped").read_text() == "mine\n" * 2  # at the end of each attempt
