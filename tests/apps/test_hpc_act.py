"""`hpc retry`, `cancel` and `rerun`, each on a sweep of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from library.hpc_command import hpc
from library.sweeps import made
from library.using import ONE_PROCESS, App, record, until

from hpc_hydra._command.recorded import Command

OPTIONS = ("+setup=local", ONE_PROCESS, "model=logistic")


def steps(run: Path) -> list[int]:
    """Those that a run has logged, in this order."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_what_did_not_complete_is_done_again(zen_app: App) -> None:
    """From wherever it is typed; the mistake is corrected in the code meanwhile."""
    assert zen_app("lr=0.1,-1,0.2", *OPTIONS).returncode == 1
    asked = hpc("retry")
    assert asked.returncode == 2 and "Nothing is done without --yes" in asked.stderr
    assert "Will submit run 1, from its last checkpoint, with\n    cd " in asked.stdout
    source = zen_app.folder / "zen_app" / "__init__.py"
    source.write_text(source.read_text().replace("if lr < 0", "if lr < -1"))
    first = record(zen_app.sweep / "0")
    done = hpc("retry", "--yes", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    assert "3 runs: 3 completed" in done.stdout and "1 to submit" in done.stdout
    assert record(zen_app.sweep / "0") == first
    nothing = hpc("retry", "--yes")
    assert nothing.returncode == 0 and "Nothing to do: all are complete. " in nothing.stdout
    # Of a sweep whose sweeper decides by the results, such as Optuna's, nobody else knows whether all is complete.
    whole = (zen_app.sweep / "sweep.json").read_text()
    by_hand = json.dumps(json.loads(re.sub('"total": 3', '"total": null', whole)), indent=4)
    (zen_app.sweep / "sweep.json").write_text(by_hand)
    assert "Will submit what its sweeper still asks for, with\n    cd " in hpc("retry").stdout
    (zen_app.sweep / "sweep.json").write_text(whole)
    # A run whose directory was deleted is to do again; and a sweep that was moved is known from then on, once.
    shutil.rmtree(zen_app.sweep / "2")
    moved = zen_app.sweep.rename(zen_app.sweep.with_name("moved"))
    assert "1 to submit" in hpc("retry", moved, "--yes").stdout
    assert record(moved / "2")["state"] == "COMPLETED"
    shutil.rmtree(moved / "0")
    assert hpc("retry", "../moved", "--yes", cwd=moved).returncode == 0
    assert hpc("status", "moved").stdout.endswith(f"\noutputs: {moved}\n")


def test_one_run_is_done_again_from_the_start(zen_app: App) -> None:
    assert zen_app("lr=0.1,0.2", "steps=3", *OPTIONS).returncode == 0
    others = [record(zen_app.sweep / "0"), record(zen_app.sweep / "1")]
    done = hpc("retry", "--run", "1", "--redo", "-y")
    assert done.returncode == 0, done.stderr
    redone = record(zen_app.sweep / "1")
    assert record(zen_app.sweep / "0") == others[0]
    assert (redone["submission"], redone["restarts"]) == (1, 0)
    assert steps(zen_app.sweep / "1") == [1, 2, 3]
    assert record(zen_app.sweep / "earlier" / "1") == others[1]
    wrong = hpc("retry", "--run", "7", "-y")
    assert wrong.returncode == 2 and "has no run 7, but 0 to 1" in wrong.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_of_a_sweep_that_was_stopped_one_run_goes_on(zen_app: App) -> None:
    """The other one is nothing to the command: it is as it was, and its end is not waited for."""
    options = ("seed=0,1", "steps=20", "+setup=local", "model=logistic")
    stopped = zen_app.start(*options, PAUSE_S="0.1")
    until(lambda: len([*zen_app.sweep.glob("*/metrics.jsonl")]) == 2, stopped)
    os.killpg(stopped.pid, signal.SIGINT)
    assert zen_app.ended(stopped).returncode == 130
    other = record(zen_app.sweep / "1")
    assert hpc("retry", "--run", "0", "--yes").returncode == 0
    assert record(zen_app.sweep / "0")["state"] == "COMPLETED"
    assert record(zen_app.sweep / "1") == other and other["state"] == "STOPPED"


def test_more_of_the_same(zen_app: App) -> None:
    """Runs that are complete go on from their checkpoints, and the records say what they were before."""
    assert zen_app("lr=0.1,0.2", "steps=2", *OPTIONS).returncode == 0
    before = record(zen_app.sweep / "1")
    refused = zen_app("lr=0.1,0.2", "steps=4", *OPTIONS)
    assert refused.returncode == 1 and f"hpc retry {zen_app.sweep} NAME=VALUE" in refused.stderr
    done = hpc("retry", "steps=4", "--yes")
    assert done.returncode == 0, done.stderr
    run = record(zen_app.sweep / "1")
    assert steps(zen_app.sweep / "1") == [1, 2, 3, 4]
    assert run["overrides"] == ["lr=0.2", "steps=4", "+setup=local", "model=logistic"]
    assert run["before"] == [
        {name: before[name] for name in ("overrides", "state", "result", "end")}
    ]  # fmt: skip
    assert run["result"] > before["result"]
    told = "\nbefore      overrides lr=0.2 steps=2 +setup=local model=logistic, state COMPLETED, result "
    assert told in hpc("show", "1").stdout
    sweep = record(zen_app.sweep)
    assert ["steps=4" in each["overrides"] for each in sweep["submissions"]] == [False, True]
    # The command of now, without what was of that submission only.
    shutil.rmtree(zen_app.sweep / "0")
    again = hpc("retry", "--yes")
    assert again.returncode == 0 and "may_change" not in again.stdout
    assert steps(zen_app.sweep / "0") == [1, 2, 3, 4]
    for value in (1, 0.2):  # nor to one of those that it has
        varying = hpc("retry", f"lr={value}", "--yes")
        assert varying.returncode == 1 and "lr varies within the sweep" in varying.stderr
    assert [run["overrides"][0] for run in record(zen_app.sweep)["runs"]] == ["lr=0.1", "lr=0.2"]


def test_more_of_the_same_though_the_first_command_came_to_nothing(zen_app: App) -> None:
    """On a full disk all stays as it was; after a kill `hpc retry` goes on with the new values."""
    assert zen_app("lr=0.1,0.2", "steps=2", *OPTIONS).returncode == 0
    before = [record(zen_app.sweep / number) for number in "01"]
    with (zen_app.folder / "zen_app" / "__init__.py").open("a") as file:
        file.write(
            "\n\nfrom hpc_hydra._job.submission import Work\n"
            "def come_to_nothing(*_): exec(Path('nothing').read_text())\n"
            "if Path('nothing').exists(): Work.write = come_to_nothing\n"
        )
    nothing = zen_app.folder / "nothing"
    for end, code in (("raise OSError(28, 'No space left on device')", 1), ("os._exit(9)", 9)):
        nothing.write_text(end)
        assert hpc("retry", "--run", "0", "--redo", "--yes").returncode == code
        assert hpc("retry", "steps=4", "--yes").returncode == code
        if code == 1:
            assert [record(zen_app.sweep / number) for number in "01"] == before
            assert "Nothing to do: all are complete" in hpc("retry").stdout
    nothing.unlink()
    again = hpc("retry", "--yes")
    assert again.returncode == 0, again.stderr
    for number in range(2):
        assert steps(zen_app.sweep / str(number)) == [1, 2, 3, 4]
        assert "steps=4" in record(zen_app.sweep)["runs"][number]["overrides"]


def test_a_sweep_in_batches_goes_on(zen_app: App) -> None:
    """What of it was never submitted is found; with other values it goes on though its first batch has them already;
    and in directories of its own, wherever these values would put them."""
    subdir = "hydra.sweep.subdir=s_${steps}_${lr}"
    batches = "hydra.sweeper.max_batch_size=1"
    assert zen_app("lr=-1,0.2", "steps=2", *OPTIONS, subdir, batches).returncode == 1
    told = "\n1 runs: 1 failed\n1 more, of later batches, are not submitted yet\n"
    assert told in hpc("status").stdout
    source = zen_app.folder / "zen_app" / "__init__.py"
    source.write_text(source.read_text().replace("if lr < 0", "if lr < -1"))
    done = hpc("retry", "--yes")
    assert "1 more, of later batches, were never submitted" in done.stdout
    assert done.returncode == 0 and "2 runs: 2 completed" in done.stdout, done.stderr
    more = hpc("retry", "--yes", "steps=3")
    assert more.returncode == 0, more.stderr
    for number in range(2):
        assert steps(zen_app.sweep / str(number)) == [1, 2, 3]
    assert hpc("retry", "--run", "0", "--redo", "--yes").returncode == 0
    assert [run["number"] for run in record(zen_app.sweep)["runs"]] == [0, 1]  # as in the table


@pytest.mark.parametrize(
    ("typed", "added", "becomes"),
    [
        ("app.py x=1 'opt={lr: 1}' --multirun", "opt.lr=2", "app.py x=1 'opt={lr: 1}' opt.lr=2 --multirun"),
        ("-m app --multirun x=1 y=2", "x=3", "-m app --multirun x=3 y=2"),
        ("-m app", "x=3", "-m app x=3"),
    ],
)  # fmt: skip
def test_what_is_typed_last_wins(typed: str, added: str, becomes: str) -> None:
    """A value in a dict that was given before, for instance."""
    command = Command(shlex.split(typed), Path("/"), "python")
    command.add(added)
    assert command.words == shlex.split(becomes)


def test_one_run_here_with_the_source_it_had(zen_app: App) -> None:
    assert zen_app("lr=0.1,-1", *OPTIONS).returncode == 1
    source = zen_app.folder / "zen_app" / "__init__.py"
    source.write_text(source.read_text().replace("is negative", "is below zero"))
    before = record(zen_app.sweep / "1")
    printed = hpc("rerun", "1", cwd=Path("/"))
    command = printed.stdout.strip()
    assert "lr=-1" in command and "--multirun" not in command and "+setup" not in command
    done = hpc("rerun", "1", "--here", cwd=Path("/"))
    assert done.stdout.startswith(command)
    assert done.returncode == 1 and "lr=-1.0 is negative" in done.stderr
    again = record(zen_app.sweep / "rerun" / "1")
    assert (again["state"], again["overrides"]) == ("FAILED", ["lr=-1", "model=logistic"])
    assert record(zen_app.sweep / "1") == before
    assert hpc("rerun", "1").stdout.strip().endswith("rerun/1_2")
    shutil.rmtree(zen_app.sweep / "source")  # as hpc clean does
    without = hpc("rerun", "1")
    assert "There is no copy of the source" in without.stderr
    assert without.stdout.startswith(f"cd {zen_app.folder} && ")


def test_a_script_with_config_files(yaml_app: App) -> None:
    """Repeated and rerun, in a directory whose name Hydra would not take as it is."""
    subprocess.run(
        ["git", "init", "--quiet"], cwd=yaml_app.folder, check=True
    )  # else it is not copied
    folder = yaml_app.folder / "a b, c"
    assert (
        yaml_app(
            "x=0,2",
            f"hydra.sweep.dir='{folder}'",
            "hydra.searchpath=[]",
            ONE_PROCESS,
            "-cn",
            "config",
        ).returncode
        == 1
    )
    (yaml_app.folder / "conf" / "model" / "small.yaml").write_text("scale: 9")
    done = hpc("rerun", folder / "1", "--here")
    assert done.returncode == 0, done.stderr
    assert "the result is 0.5" in done.stdout
    assert "'hydra.searchpath=[]'" in done.stdout
    asked = (folder / "multirun.yaml").read_text()
    again = hpc("retry", "x=3", "--yes")
    assert again.returncode == 1 and "x varies" in again.stderr
    assert (folder / "multirun.yaml").read_text() == asked
    assert hpc("retry", "--run", "1", "--redo", "--yes").returncode == 0  # of what was asked for
    assert record(folder / "1")["result"] == 4.5


def test_one_of_the_runs_that_share_a_process_is_cancelled(zen_app: App, tmp_path: Path) -> None:
    """It saves and ends, one that has not begun never begins, and the others go on; by whatever path the sweep is named."""
    link = tmp_path / "link"
    link.symlink_to(zen_app.sweep)
    sweeping = zen_app.start("seed=0,1,2", "steps=60", *OPTIONS, PAUSE_S="0.05")
    metrics = zen_app.sweep / "0" / "metrics.jsonl"
    until(metrics.exists, sweeping)
    refused = hpc("retry", link, "--run", "0", "--redo", "--yes")
    assert "Nothing to do: the jobs of run 0 are under way" in refused.stdout
    done = hpc("cancel", link, "--run", "0", "--run", "1", "--yes")
    assert done.returncode == 0, done.stderr
    first, second = (record(zen_app.sweep / number) for number in "01")
    assert (first["state"], first["error"]) == (
        "CANCELLED",
        "CANCELLED by hpc cancel, after SIGTERM",
    )
    assert (second["state"], second["error"]) == ("CANCELLED", "CANCELLED by hpc cancel")
    saved = len(steps(zen_app.sweep / "0"))
    assert zen_app.ended(sweeping).returncode == 1
    assert record(zen_app.sweep / "2")["state"] == "COMPLETED"
    assert not (zen_app.sweep / "1" / "metrics.jsonl").exists() and saved < 60
    assert "Nothing to cancel" in hpc("cancel", "--yes").stdout
    again = hpc("retry", "--yes")
    assert again.returncode == 0, again.stderr
    assert steps(zen_app.sweep / "0") == list(range(1, 61))  # each once
    assert record(zen_app.sweep / "1")["state"] == "COMPLETED"


def test_a_run_that_begins_before_the_question_is_answered(
    zen_app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cancelled as one that is under way, though it was waiting when the question was put."""
    sweeping = zen_app.start("seed=0,1,2", "steps=20", *OPTIONS, PAUSE_S="0.1")
    until((zen_app.sweep / "0" / "metrics.jsonl").exists, sweeping)
    begun = (zen_app.sweep / "1" / "metrics.jsonl").exists
    monkeypatch.setattr("hpc_hydra._command.cancel.agreed", lambda *_: until(begun, sweeping))
    done = hpc("cancel", "--run", "1")
    assert done.stdout.startswith("cancelled: run 1."), done.stderr
    saved = len(steps(zen_app.sweep / "1"))
    assert zen_app.ended(sweeping).returncode == 1
    assert len(steps(zen_app.sweep / "1")) == saved < 20
    assert record(zen_app.sweep / "1")["state"] == "CANCELLED"


def test_one_that_ignores_signals_is_killed(zen_app: App) -> None:
    """After half a minute, though its supervisor is woken each second."""
    words = ("seed=0,1", "steps=10000", "signal_policy=ignore")
    sweeping = zen_app.start(*words, *OPTIONS, PAUSE_S="0.1")
    until((zen_app.sweep / "0" / "metrics.jsonl").exists, sweeping)
    done = hpc("cancel", "--yes")
    assert done.returncode == 0, done.stderr
    assert zen_app.ended(sweeping).returncode == 1
    states = [record(zen_app.sweep / number)["error"] for number in "01"]
    assert states == ["CANCELLED by hpc cancel"] * 2
    assert not (zen_app.sweep / "1" / "metrics.jsonl").exists()


def test_one_that_completes_all_the_same_is_not_called_cancelled(yaml_app: App) -> None:
    """Because it hears TERM itself, say."""
    (yaml_app.folder / "app.py").write_text("""
import hydra, pathlib, signal, threading
@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    pathlib.Path("hears").touch()
    asked.wait()
if __name__ == "__main__":
    main()
""")
    sweeping = yaml_app.start("x=1")
    until((yaml_app.folder / "hears").exists, sweeping)
    assert hpc("cancel", "--yes").stdout == "completed all the same: run 0\n"
    assert yaml_app.ended(sweeping).returncode == 0


def test_a_sweep_is_cancelled(zen_app: App) -> None:
    sweeping = zen_app.start("seed=0,1", "steps=1000", *OPTIONS, PAUSE_S="0.05")
    until((zen_app.sweep / "0" / "metrics.jsonl").exists, sweeping)
    asked = hpc("cancel")
    assert asked.returncode == 2 and "Cancel runs 0, 1 of" in asked.stderr
    refused = hpc("retry", "steps=9", "--yes")
    assert refused.stderr.startswith("Still running with the old values: runs 0, 1. ")
    assert hpc("cancel", "--yes").returncode == 0
    assert zen_app.ended(sweeping).returncode == 1
    states = [record(zen_app.sweep / number)["state"] for number in "01"]
    assert states == ["CANCELLED", "CANCELLED"]


def test_nothing_is_added_to_a_sweep_of_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made(tmp_path / "sweep", ["lr=1"], [ValueError("bad")])
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 3)
    for words in (("retry", sweep, "--yes"), ("rerun", sweep / "0", "--here")):
        refused = hpc(*words)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"{sweep} belongs to ")
