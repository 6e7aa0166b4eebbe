"""The command of an app, as it is typed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from library.examples import zen_app as example
from library.hpc_command import hpc
from library.using import ONE_PROCESS, App, record, until


def test_help_starts_without_heavy_libraries(zen_app: App) -> None:
    program = """
import runpy, sys
sys.argv = ["command", "--help"]
try:
    runpy.run_module("zen_app", run_name="__main__")
finally:
    print("loaded:", *sorted({"numpy", "rich", "submitit", "wandb"} & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=zen_app.folder, capture_output=True, text=True
    )
    assert "hpc_batch" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            "+setup=local hydra.sweep.dir=file/x",
            "hydra.sweep.dir, where outputs go: .*Not a directory.*",
        ),
        ("+setup=hpc_batch hydra.sweep.dir=${oc.env:NO_X}", r"\$NO_X is not set: export it"),
        ("lr=1 hydra.run.dir=file/x", "hydra.run.dir, where outputs go: .*Not a directory.*"),
    ],
)
def test_no_place_for_outputs(overrides: str, complaint: str, zen_app: App) -> None:
    """A line says so, and which setting is meant."""
    (zen_app.folder / "file").touch()
    ended = zen_app(*overrides.split())
    assert ended.returncode == 1
    assert re.fullmatch(complaint, ended.stderr.splitlines()[-1])
    assert "Traceback" not in ended.stderr


def test_one_run_of_a_sweep_fails_and_the_others_do_not(zen_app: App) -> None:
    ended = zen_app(
        "+setup=local", "model=logistic", "lr=0.1,-1", "-m", FORCE_COLOR="1"
    )  # a terminal
    assert ended.returncode == 1
    assert "1 of 2 runs did not complete" in ended.stderr
    assert "Error executing job" not in ended.stderr  # Hydra's words, after all has been said
    assert re.search(r"\d of 2: \d pending, \d running, \d done, \d failed", ended.stderr)
    assert "run 1 failed: " in ended.stderr
    assert "run 1 failed: ValueError: lr=-1.0 is negative" in ended.stdout

    completed, failed = (record(zen_app.sweep / number) for number in "01")
    assert (completed["state"], completed["restarts"]) == ("COMPLETED", 0)
    assert completed["result"] == pytest.approx(1e-5)
    assert (failed["state"], failed["result"]) == ("FAILED", None)
    assert failed["error"].startswith("Traceback") and "lr=-1.0 is negative" in failed["error"]

    runs = record(zen_app.sweep)["runs"]
    assert [run["overrides"][2] for run in runs] == ["lr=0.1", "lr=-1"]
    log = zen_app.sweep / runs[1]["log"]
    assert f"log: {log}" in ended.stdout
    assert "ValueError" in log.read_text()
    assert (zen_app.sweep / "0" / "zen_app.log").exists()


def test_the_command_again_does_what_is_left(zen_app: App) -> None:
    """Results of complete runs come from their records, even if that is all that is left of them."""
    options = ("+setup=local", ONE_PROCESS, "model=logistic", "lr=0.1,0.01")
    assert zen_app(*options).returncode == 0
    first = record(zen_app.sweep / "0")
    for path in (zen_app.sweep / "jobs").glob("run_*"):
        path.unlink()
    shutil.rmtree(zen_app.sweep / "1")
    again = zen_app(*options)
    assert again.returncode == 0, again.stderr
    assert "1 to submit" in again.stdout
    assert record(zen_app.sweep / "0") == first
    second = record(zen_app.sweep / "1")
    assert (second["state"], second["submission"]) == ("COMPLETED", 1)

    changed = zen_app(*options[:-1], "lr=0.1")
    assert changed.returncode == 1
    assert "has a sweep of other overrides" in changed.stderr
    assert "in place of another preset hydra/launcher=NAME" in changed.stderr


def test_a_machine_with_few_programs(zen_app: App) -> None:
    """Images for containers often have no `ps`."""
    path = zen_app.folder.parent / "bin"
    path.mkdir()
    (path / "env").symlink_to(shutil.which("env") or "")
    ended = zen_app("+setup=local", "seed=1", "steps=3", ONE_PROCESS, PATH=str(path), PAUSE_S="0.5")
    assert ended.returncode == 0, ended.stderr


def test_a_directory_that_is_chosen_by_force_is_the_one(zen_app: App) -> None:
    """Hydra takes ++ wherever it takes an override."""
    zen_app.command[-2] = f"++{zen_app.command[-2]}"
    for _ in range(2):
        ended = zen_app("+setup=local", "seed=1,2", ONE_PROCESS)
    assert "0 to submit" in ended.stdout


def test_a_run_that_is_requeued_then_stopped_ends_with_the_same_result(zen_app: App) -> None:
    """submitit's local executor warns and requeues like Slurm; Ctrl-C in a terminal stops it."""
    run = zen_app.sweep / "0"
    options = ("+setup=local", "model=logistic", "seed=1", "steps=40")
    sweeping = zen_app.start(*options, PAUSE_S="0.1")

    def steps() -> list[int]:
        with suppress(FileNotFoundError):
            lines = (run / "metrics.jsonl").read_text().splitlines()
            return [json.loads(line)["step"] for line in lines]
        return []

    until(steps, sweeping)
    os.kill(supervisor_of(zen_app.sweep), signal.SIGUSR2)
    until(lambda: record(run)["restarts"], sweeping)
    done = steps()
    until(lambda: len(steps()) > len(done), sweeping)

    os.killpg(sweeping.pid, signal.SIGINT)  # what a terminal does
    stopped = zen_app.ended(sweeping)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert f"hydra.sweep.dir={zen_app.sweep}" in stopped.stderr
    assert record(run)["state"] == "STOPPED"
    assert max(steps()) < 40

    assert zen_app(*options).returncode == 0
    resumed = record(run)
    assert (resumed["state"], resumed["restarts"]) == ("COMPLETED", 2)
    assert steps() == list(range(1, 41))  # each once
    (whole := zen_app.folder / "whole").mkdir()
    model = partial(example.logistic, alpha=1e-4)
    assert resumed["result"] == example.train(model, whole, steps=40, seed=1)


def test_no_run_goes_on_beside_the_one_that_takes_its_place(zen_app: App) -> None:
    """What waits knows of submitit's process alone, which somebody kills."""
    sweeping = zen_app.start("+setup=local", "steps=40", PAUSE_S="0.1")
    until((metrics := zen_app.sweep / "0" / "metrics.jsonl").exists, sweeping)
    os.kill(int(record(zen_app.sweep)["runs"][0]["job_id"]), signal.SIGKILL)
    assert zen_app.ended(sweeping).returncode == 1
    done = metrics.read_text()
    time.sleep(0.5)
    assert metrics.read_text() == done


def test_a_run_that_is_killed_while_it_stops_is_to_go_on(zen_app: App) -> None:
    """Slurm kills the processes of a job that does not stop in time one after another, the supervisor perhaps last."""
    sweeping = zen_app.start("+setup=local", "steps=40", PAUSE_S="60")
    until((zen_app.sweep / "0" / "metrics.jsonl").exists, sweeping)
    supervisor = supervisor_of(zen_app.sweep)
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    os.kill(supervisor, signal.SIGTERM)
    (log,) = zen_app.sweep.glob("jobs/*_0_log.out")
    until(lambda: "asked to stop" in log.read_text(), sweeping)
    os.kill(int(children.read_text()), signal.SIGKILL)
    assert zen_app.ended(sweeping).returncode == 1
    assert "SIGKILL" not in record(zen_app.sweep / "0")["error"]


def supervisor_of(sweep: Path) -> int:
    """The process that supervises the sweep's only run."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_text(errors="replace").split("\0")
            if f"{sweep}/jobs/submission_0.pkl" in words:
                parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
                found[int(path.parent.name)] = int(parent)
    (supervisor,) = (process for process, parent in found.items() if parent not in found)
    return supervisor


def test_the_command_that_waits_again_is_good_where_hpc_retry_was_typed(zen_app: App) -> None:
    assert zen_app("+setup=local", "lr=-1", ONE_PROCESS).returncode == 1
    again = hpc("retry", "hydra.launcher.wait=false", "--yes", cwd=Path("/"), PWD="/").stderr
    line = again.partition("To wait for them again:\n    ")[2]
    waited = subprocess.run(line, shell=True, cwd="/", capture_output=True, text=True)
    assert "1 of 1 runs did not complete" in waited.stderr


def test_who_reads_its_output_does_not_wait_for_the_runs(zen_app: App) -> None:
    """`command | tee log` would hang until the last run has ended."""
    ended = zen_app("+setup=local", "steps=1000", "hydra.launcher.wait=false", PAUSE_S="0.2")
    assert ended.returncode == 0, ended.stderr
    assert record(zen_app.sweep)["runs"][0]["job_id"]
    assert not (zen_app.sweep / "0" / "run.json").exists() or (
        record(zen_app.sweep / "0")["state"] == "RUNNING"
    )
    assert hpc("cancel", zen_app.sweep, "--yes").returncode == 0


@pytest.mark.parametrize(
    ("swept", "complaint"),
    [
        ("seed=range(0)", "no runs: one of the parameters is swept over no value at all"),
        ("hydra.launcher.only_runs=[9]", "hydra.launcher.only_runs: 9 is none of 1 runs"),
        ("lr=interval(0,1)", "BasicSweeper does not support sweep type : INTERVAL_SWEEP"),
    ],
)
def test_what_is_no_sweep_is_said_in_a_line(swept: str, complaint: str, zen_app: App) -> None:
    ended = zen_app("+setup=local", swept)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == complaint  # after Hydra 1.4's warnings
    assert "Traceback" not in ended.stderr


def test_a_shuffled_sweep_can_be_repeated(zen_app: App) -> None:
    """In another order its runs would be those of another sweep."""
    command = ("+setup=local", "seed=shuffle(range(5))", ONE_PROCESS)
    assert zen_app(*command).returncode == 0
    shutil.rmtree(zen_app.sweep / "3")
    assert zen_app(*command).returncode == 0
    assert record(zen_app.sweep / "3")["state"] == "COMPLETED"


def test_a_terminal_is_closed(zen_app: App) -> None:
    """The runs are asked to stop, and save; the process of submitit's, which they end with, has to live that long."""
    main, terminal = os.openpty()
    variables = {**os.environ, "PAUSE_S": "0.2"}
    process = subprocess.Popen(
        ["setsid", "--ctty", *zen_app.command, "+setup=local", "steps=1000"],
        cwd=zen_app.folder, env=variables, stdin=terminal, stdout=terminal, stderr=terminal, text=True,
    )  # fmt: skip
    os.close(terminal)
    metrics = zen_app.sweep / "0" / "metrics.jsonl"
    until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, process)
    os.close(main)
    deadline = time.monotonic() + 60
    while record(zen_app.sweep / "0")["state"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = record(zen_app.sweep / "0")
    assert (stopped["state"], stopped["error"][:6]) == ("STOPPED", "SIGHUP")
    process.wait(timeout=60)
    assert list((zen_app.sweep / "0").glob("checkpoint*"))


def test_who_reads_its_output_may_leave(zen_app: App) -> None:
    """As in `command | head -1`: the runs are done all the same."""
    read, write = os.pipe()
    os.close(read)
    subprocess.run(
        [*zen_app.command, "+setup=local", "seed=1,2", ONE_PROCESS],
        cwd=zen_app.folder, stdout=write, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    assert [record(zen_app.sweep / str(run))["state"] for run in range(2)] == ["COMPLETED"] * 2


def test_runs_of_a_process_draw_numbers_of_their_own(zen_app: App) -> None:
    """They are forked from one; and what one leaves in its process is nothing to the next."""
    command = ("+setup=local", "model=chance", "lr=1,2,3", "hydra.launcher.cpus_per_task=1000")
    assert zen_app(*command).returncode == 0
    results = {record(zen_app.sweep / str(number))["result"] for number in range(3)}
    assert len(results) == 3 and max(results) < 1
