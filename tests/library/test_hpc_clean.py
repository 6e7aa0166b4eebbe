"""`hpc clean` deletes what it has shown, and nothing of a sweep that may still be needed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_hydra import _records as records

from .hpc_command import hpc
from .sweeps import made
from .using import ONE_PROCESS, App, record, until

OPTIONS = ("+setup=local", ONE_PROCESS, "model=logistic", "steps=3")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_can_go(zen_app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    failed, waiting = zen_app.folder / "failed", zen_app.folder / "waiting"
    assert zen_app("lr=0.1,-1", *OPTIONS).returncode == 1
    assert zen_app("lr=-1", f"hydra.sweep.dir={failed}", *OPTIONS).returncode == 1
    mine = {failed / name for name in ("notes.txt", "jobs/fit.sh", "earlier/old/a", "rerun/b")}
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    data = tmp_path / "data"
    data.mkdir()
    (data / "large").write_bytes(b"0" * 10**6)
    next(iter(failed.glob("source*"))).joinpath("data").symlink_to(data)
    waiting.mkdir()
    run = {"number": 0, "overrides": [], "job_id": None, "log": None}
    records.record_sweep(waiting, "slurm", [], [{**run, "job_id": "7_0"}])  # Slurm does not answer
    before = names(zen_app.sweep / "0")

    assert "Nothing to clean" in hpc("clean").stdout  # not old enough
    shown = hpc("clean", "--older-than", "0", PATH="/nowhere")
    assert shown.returncode == 2 and "Nothing is done without --yes" in shown.stderr
    assert f"2 in {zen_app.sweep}\n" in shown.stdout and str(failed) in shown.stdout
    assert str(waiting) not in shown.stdout and " MB" not in shown.stdout
    assert "copies of the source" not in shown.stdout  # a run of it is to be retried
    assert failed.exists() and names(zen_app.sweep / "0") == before

    told = json.loads(
        hpc("clean", "--older-than=0", "--only=failed", "--json", PATH="/nowhere").stdout
    )
    assert [(each["what"], each["directory"]) for each in told] == [("failed", str(failed))]
    done = hpc("clean", zen_app.folder, "--older-than", "0", "--yes", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert {path for path in failed.rglob("*") if path.is_file()} == mine
    assert (data / "large").exists()
    assert before - names(zen_app.sweep / "0") == {
        name for name in before if name.startswith("checkpoint_")
    }  # fmt: skip
    assert record(zen_app.sweep / "0")["state"] == "COMPLETED"
    assert (zen_app.sweep / "source").exists() and (waiting / records.SWEEP).exists()
    assert hpc("clean", "--older-than=0", PATH="/nowhere").stdout == "Nothing to clean.\n"


def test_a_folder_that_was_there_before_is_no_copy_of_the_source(zen_app: App) -> None:
    """Though it is called as one would be."""
    (own := zen_app.sweep / "source").mkdir(parents=True)
    (own / "main.c").touch()
    assert zen_app("lr=0.1", *OPTIONS).returncode == 0
    assert (zen_app.sweep / "source_2").exists()
    words = ("clean", zen_app.sweep, "--only", "sources", "--older-than", "0", "--yes")
    assert f"1 in {zen_app.sweep}\n" in hpc(*words).stdout
    assert names(own) == {"main.c"} and not (zen_app.sweep / "source_2").exists()


def test_runs_with_names_of_their_own_are_deleted_by_these(yaml_app: App) -> None:
    assert yaml_app("x=0", "hydra.sweep.subdir='x=${x}/run'").returncode == 1
    assert (yaml_app.sweep / "x=0" / "run" / "run.json").exists()
    assert "deleted" in hpc("clean", yaml_app.sweep, "--older-than", "0", "--yes").stdout
    assert not yaml_app.sweep.exists()


def test_one_that_cannot_be_deleted_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a file that another machine has open, on NFS."""
    sweeps = [made(tmp_path / name, ["lr=1"], [ValueError("bad")]) for name in ("used", "unused")]

    def delete(folder: Path) -> None:
        if folder.is_relative_to(sweeps[0]):
            raise OSError(16, "Device or resource busy", str(folder))
        rmtree(folder)

    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", delete)
    done = hpc("clean", *sweeps, "--older-than", "0", "--yes")
    assert done.returncode == 1 and f"{sweeps[0]}: [Errno 16] Device or resource" in done.stderr
    assert [sweep.exists() for sweep in sweeps] == [True, False]
    assert (sweeps[0] / records.SWEEP).exists()  # else nobody would find it again


def test_ctrl_c_at_a_question(tmp_path: Path) -> None:
    sweep = made(tmp_path / "sweep", ["lr=1"], [ValueError("bad")])
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "hpc_hydra", "clean", str(sweep), "--older-than", "0"]
    asked = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, text=True)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 1000)
    # Until it waits for the answer: what comes just before that, Python's input() hears only after it.
    state = Path(f"/proc/{asked.pid}/stat")
    until(lambda: state.read_text().rpartition(") ")[2].startswith("S"), asked)
    asked.send_signal(signal.SIGINT)
    assert asked.wait(60) == 130 and sweep.exists()


def test_what_is_elsewhere_is_not_meant_by_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made(tmp_path / "other" / "outputs" / "sweep", ["lr=1"], [ValueError("bad")])
    (tmp_path / "outputs").mkdir()
    words = ("clean", "outputs", "--older-than", "0", "--json")
    assert json.loads(hpc(*words, cwd=tmp_path).stdout) == []
    assert len(json.loads(hpc(*words, cwd=tmp_path / "state").stdout)) == 1


@pytest.mark.parametrize("checkpoint", ["checkpoint_3-00000000.ckpt", "checkpoints/last.ckpt"])
def test_a_sweep_that_could_go_on_is_offered_only_if_it_is_asked_for(
    checkpoint: str, tmp_path: Path
) -> None:
    """As one whose only run was out of time: its checkpoints, ours or its trainer's, may be weeks of work."""
    sweep = made(tmp_path / "sweep", ["lr=1"], [ValueError("bad")])
    words = ("clean", sweep, "--older-than", "0", "--json")
    assert [each["what"] for each in json.loads(hpc(*words).stdout)] == ["failed"]
    command = f"{sys.executable} -m hpc_hydra clean {sweep} --older-than 0 <&-"
    asked = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert (asked.returncode, sweep.exists()) == (2, True) and "without --yes" in asked.stderr
    (sweep / "0" / checkpoint).parent.mkdir(exist_ok=True)
    (sweep / "0" / checkpoint).touch()
    assert json.loads(hpc(*words).stdout) == []
    assert len(json.loads(hpc(*words, "--only=failed").stdout)) == 1


@pytest.mark.parametrize("kept", ["earlier/0", "rerun/0_2", "0"])
def test_a_sweep_in_which_something_once_completed_has_not_failed(
    kept: str, tmp_path: Path
) -> None:
    """Before `hpc retry` did it again, or let it go on."""
    sweep = made(tmp_path / "sweep", ["lr=1"], [ValueError("bad")])
    words = ("clean", sweep, "--only", "failed", "--older-than", "0", "--json")
    assert len(json.loads(hpc(*words).stdout)) == 1
    completed = {"state": "COMPLETED", "result": 0.9}
    (sweep / kept).mkdir(parents=True, exist_ok=True)
    now = {**record(sweep / "0"), "before": [completed]} if kept == "0" else completed
    records.write(sweep / kept / records.RUN, now)
    assert json.loads(hpc(*words).stdout) == []
