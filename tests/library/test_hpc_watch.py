"""`hpc ls`, `status`, `logs` and `show`, on the records of a sweep in which a run fails."""

import io
import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_hydra import _records as records
from hpc_hydra import _squeue as squeue

from . import hpc_command
from .conftest import copied
from .hpc_command import hpc
from .sweeps import made
from .using import ONE_PROCESS, App, record


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """With a sweep of three runs, of which one fails, and a sweep in a place of its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    folder = tmp_path_factory.mktemp("app") / "zen_app"
    for app in copied("zen_app", folder, "-m", "zen_app"):
        options = ("+setup=local", ONE_PROCESS, "model=logistic", "steps=3")
        assert app("lr=0.1,0.2,-1", *options).returncode == 1
        assert app("hydra.sweep.dir=paper/fig1", "lr=0.5", *options).returncode == 0
        yield app
    patch.undo()


def test_sweeps_are_listed_the_newest_first(app: App) -> None:
    """Those named by their owner too; hpc alone is hpc ls. What is gone drops out."""
    records._remember(app.folder / "gone")
    lines = hpc().stdout.splitlines()
    assert hpc("ls").stdout.splitlines() == lines
    newest, older = (line for line in lines if "zen_app" in line)
    assert "paper/fig1" in newest and re.search(r"lr=0.5 .* 1 completed", newest)
    assert "2 completed, 1 failed" in older and f" {app.sweep} " in older
    assert hpc("ls", "paper", cwd=app.folder).stdout.count("completed") == 1
    found = json.loads(hpc("ls", app.folder, "--json").stdout)
    assert {each["directory"] for each in found} == {
        str(app.sweep), str(app.folder / "paper" / "fig1")
    }  # fmt: skip
    assert all(each["app"] == "zen_app" for each in found)
    assert hpc("--version").stdout == f"hpc-hydra {records.library_version()}\n"


def on_a_terminal(columns: int, *words: object) -> str:
    """What `hpc` prints there."""
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "hpc_hydra", *map(str, words)]
    variables = {**os.environ, "COLUMNS": str(columns)}
    subprocess.run(command, stdout=terminal, env=variables, check=True)
    os.close(terminal)
    shown = os.read(main, 65536).decode()
    os.close(main)
    return shown


def test_on_a_terminal_directories_are_told_apart(app: App) -> None:
    """A narrow one has no room for whole paths; `hpc` knows sweeps by what is shown."""
    shown = on_a_terminal(100)
    assert re.search(r" paper/fig1\s", shown) and f"directories in {app.folder}/\r\n" in shown


def test_paths_can_be_copied_from_a_narrow_terminal(app: App) -> None:
    shown = on_a_terminal(30, "status", app.sweep)
    assert f"\r\noutputs: {app.sweep}\r\n" in shown
    log = record(app.sweep)["runs"][2]["log"]
    assert f" log: {app.sweep / log}\r\n" in shown


def test_the_range_of_results_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each number, if the task returns several; which end is the better one is not known."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    runs = ["lr=1", "lr=2", "lr=3"]
    made(tmp_path / "one", runs, [0.75, 0.5, ValueError("bad")])
    made(tmp_path / "two", runs, [{"acc": 0.5, "by": "x", "loss": 2}, {"acc": 0.25}, math.nan])
    two, one = (line for line in hpc().stdout.splitlines() if "completed" in line)
    assert " 0.5 to 0.75 " in one and " acc 0.25 to 0.5, loss 2 " in two
    told = json.loads(hpc("ls", "--json").stdout)
    assert told[0]["results"] == {"result.acc": [0.25, 0.5], "result.loss": [2, 2]}
    for words in (("show", "2"), ("status",)):
        assert '"result": "NaN"' in hpc(*words, "--json").stdout  # JSON knows no other


def test_slurm_is_asked_once_and_only_for_what_is_not_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer takes half a minute each time."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked: list[int] = []
    monkeypatch.setattr(squeue, "jobs", asked.append)
    for name in "abc":
        sweep = made(tmp_path / name, ["lr=1"], [0.5])
        run = {"number": 0, "overrides": [], "job_id": "7_0", "log": "jobs/7_0.out"}
        records.record_sweep(sweep, "slurm", [], [run])
        assert (hpc("ls").returncode, asked) == (0, [])
        (sweep / "0" / "run.json").unlink()
        for words in (
            ["ls"],
            ["clean"],
            ["results", *(tmp_path / each for each in "abc" if each <= name)],
        ):
            assert (hpc(*words).returncode, len(asked)) == (0, 1)
            asked.clear()
        records.write(sweep / "0" / "run.json", {"state": "COMPLETED"})


def test_jobs_on_another_cluster_are_not_taken_for_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters of a site may share a file system: here hpc would clean up, or submit again, what goes on there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(squeue, "jobs", lambda uid: {})
    monkeypatch.setattr(squeue, "cluster", lambda: "there")
    (folder := (sweep := tmp_path / "sweep") / "0").mkdir(parents=True)
    run = {"number": 0, "overrides": [], "job_id": "7_0", "log": "jobs/7_0.out"}
    command = {"command": "python -m app", "cwd": "/", "python": "python"}
    submission = {"submission": 0, **command}
    records.record_sweep(sweep, "slurm", [], [run], submission)
    records.write(folder / records.RUN, {**run, "state": "RUNNING"})
    assert "1 lost" in hpc("status", sweep).stdout
    monkeypatch.setattr(squeue, "cluster", lambda: "here")
    shown = hpc("status", sweep)
    assert "1 running" in shown.stdout and f"{sweep} has its jobs on there" in shown.stderr
    assert "Nothing to do: the jobs of run 0 are under way" in hpc("retry", sweep, "--yes").stdout
    assert "are on there: type this there" in hpc("cancel", sweep, "--yes").stderr
    assert json.loads(hpc("clean", sweep, "--older-than", "0", "--json").stdout) == []


def test_a_narrow_terminal_cuts_nothing_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")  # which has 80 columns
    names = [f"{'long_' * 12}{end}" for end in ("one", "two")]
    for name in names:
        made(tmp_path / name, [f"{'model.' * 10}lr={lr}" for lr in (0.25, 0.125)], [1, 2])
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda _: True})
    monkeypatch.setattr(hpc_command, "Output", terminal)
    assert [line.strip() for line in hpc().stdout.splitlines() if "long_" in line] == names[::-1]
    told = re.sub(r"\s", "", hpc("status", names[0]).stdout)
    assert "lr=0.25" in told and "lr=0.125" in told and told.count("COMPLETED") == 2
    # Of hundreds of numbers the first and the last ones, as of a long text.
    made(tmp_path / "many", ["lr=1"], [{f"metric{number}": number / 8 for number in range(300)}])
    told = hpc("status", "many").stdout
    assert "metric0=0" in told and "37.38" in told and len(told.splitlines()) < 30

    # What it says may be typed next, can be.
    for name, result, end in (("number", 1, " --best 10"), ("dict", {"a": 1, "b": 2}, "")):
        sweep = made(tmp_path / name, ["lr=1"], [result])
        assert f"\nnext: hpc results{end}\n" in hpc("status", sweep).stdout
        assert hpc("results", sweep, *end.split()).returncode == 0


def test_a_sweep_is_named_by_a_part_of_its_directory(app: App) -> None:
    assert "1 runs: 1 completed" in hpc("status").stdout
    assert "1 runs: 1 completed" in hpc("status", "fig1").stdout
    assert "3 runs:" in hpc("status", "sweep", cwd=app.folder).stdout
    several = hpc("status", app.folder.name)
    assert several.returncode == 2 and f"\n    {app.sweep}\n" in several.stderr
    none = hpc("status", "fig7")
    assert none.returncode == 2 and "fig7: no sweep has that" in none.stderr
    # One that is called so, and not another in whose name it is by chance.
    shutil.copytree(app.folder / "paper" / "fig1", app.folder / "paper" / "fig10")
    records._remember(app.folder / "paper" / "fig10")
    assert hpc("status", "fig1").stdout.endswith("paper/fig1\n")
    shutil.rmtree(app.folder / "paper" / "fig10")


def test_the_table_of_a_sweep(app: App) -> None:
    output = hpc("status", app.sweep).stdout
    assert output.startswith("all runs: model=logistic steps=3\n")
    assert re.search(r"  0 .* lr=0\.1 +COMPLETED +3 +\d:\d\d:\d\d .* 1\.833e-05", output)
    assert "run 2 failed: ValueError: lr=-1.0 is negative\n    lr=-1 log: " in output
    told = json.loads(hpc("status", app.sweep, "--json").stdout)
    assert [(run["state"], run["step"]) for run in told["runs"]] == [
        ("COMPLETED", 3), ("COMPLETED", 3), ("FAILED", None)
    ]  # fmt: skip
    assert Path(told["runs"][2]["log"]).exists()
    assert "lr=-1" in (alone := hpc("status", app.sweep / "2").stdout) and "no log" not in alone
    watched = hpc("status", app.sweep, "--watch")
    assert watched.stdout == output


def test_runs_that_failed_alike_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep may have hundreds of them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    results = [ValueError("negative"), 0.5, ValueError("negative"), ValueError("zero")]
    sweep = made(tmp_path / "sweep", [f"lr={number}" for number in range(4)], results)
    told = hpc("status", sweep).stdout
    assert re.findall(r"^run .*\n    .*$", told, re.MULTILINE) == [
        f"run 0 and 1 more failed: ValueError('negative')\n    lr=0 log: {sweep}/jobs/7_0.out",
        f"run 3 failed: ValueError('zero')\n    lr=3 log: {sweep}/jobs/7_3.out",
    ]


def test_a_log_tells_the_jobs_lines_from_the_runs(app: App) -> None:
    output = hpc("logs", app.sweep, "2").stdout
    assert re.search(r"^job\| hpc-hydra: run 2 begins on \S+, 20\d\d-", output, re.MULTILINE)
    assert re.search("^ValueError: lr=-1.0 is negative$", output, re.MULTILINE)
    assert "run 0 begins" not in output  # in the same job
    assert hpc("logs", app.sweep / "2", "--follow").stdout == output
    alone = hpc("logs", "fig1", "0").stdout.splitlines()
    assert alone[0].startswith("job| hpc-hydra: run 0 begins")
    assert "completed with result" in alone[1]
    missing = hpc("logs", app.sweep, "3")
    assert missing.returncode == 2 and "has no run 3, but 0 to 2" in missing.stderr
    assert "has no log of rank 7 yet" in hpc("logs", app.sweep, "2", "--rank", "7").stderr


def test_a_sweep_without_runs_has_none_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (sweep := tmp_path / "sweep").mkdir()
    records.record_sweep(sweep, "local", [], [])
    assert hpc("logs", sweep, "0").stderr == f"{sweep} has no run 0: nothing of it was submitted.\n"


def test_a_log_may_be_larger_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweep = made(tmp_path / "sweep", ["lr=1"], [0.5])
    with (sweep / "jobs" / "7_0.out").open("wb") as log:
        for mib in range(2000):
            log.write(b"a line\n")
            log.seek(mib << 20)
    limited = f"ulimit -v 1000000; {sys.executable} -m hpc_hydra logs {sweep} 0 | head -1"
    ended = subprocess.run(limited, shell=True, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("job| a line\n", "")


def test_what_went_to_stderr_is_in_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stderr_to_stdout=false; the other one is as srun's --label has it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweep = made(tmp_path / "sweep", ["lr=1"], [0.5])
    (sweep / "jobs" / "7_0.out").write_text("of out\n")
    begins = "0: hpc-hydra: run 0 begins here"
    (sweep / "jobs" / "7_0.err").write_text(f"a module's note\n{begins}\n0: of err\n")
    lines = ["of out", "job| a module's note", f"job| {begins}", "0: of err"]
    assert hpc("logs", sweep, "0").stdout.splitlines() == lines


def test_watching_ends_with_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a traceback."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = {"number": 0, "overrides": [], "job_id": "7_0", "log": "jobs/7_0.out"}
    (sweep := tmp_path / "sweep").mkdir()
    records.record_sweep(sweep, "slurm", [], [run])
    watching = subprocess.Popen(
        [sys.executable, "-m", "hpc_hydra", "status", sweep, "--watch"], text=True,
        env={**os.environ, "PATH": "/nowhere"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # under nohup, too
    )  # fmt: skip
    assert watching.stdout and watching.stdout.readline() == "1 pending\n"
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130 and "Traceback" not in said
    main, terminal = os.openpty()  # which can only add lines, such as that of Emacs
    dumb = subprocess.Popen(
        [sys.executable, "-m", "hpc_hydra", "status", sweep, "--watch"],
        env={**os.environ, "PATH": "/nowhere", "TERM": "dumb"}, stdout=terminal,
    )  # fmt: skip
    shown = b""
    while b"\n1 pending\r\n" not in shown and select.select([main], [], [], 60)[0]:
        shown += os.read(main, 1000)
    dumb.kill()
    dumb.wait()
    assert b"\n1 pending\r\n" in shown


def test_all_that_is_known_of_a_run(app: App) -> None:
    output = hpc("show", app.sweep, "2").stdout
    for text in (
        "\noverrides   lr=-1 +setup=local",
        "lr: -1.0",
        "ValueError: lr=-1.0",
        "-m zen_app",
    ):
        assert text in output
    known = json.loads(hpc("show", "0", "--json").stdout)  # of the newest sweep
    assert (
        known["metrics"]["total"] == known["result"] == pytest.approx(0.5e-4 * (1 + 1 / 2 + 1 / 3))
    )
    assert known["directory"] == str(app.folder / "paper" / "fig1" / "0")


def test_a_run_alone_is_shown(app: App) -> None:
    """It has no sweep.json."""
    assert app("model=logistic").returncode == 0
    assert "COMPLETED" in hpc("status", app.run).stdout
    assert json.loads(hpc("status", app.run, "--json").stdout)["runs"][0]["step"] is not None
    assert "model=logistic" in hpc("show", app.run).stdout


def test_nothing_heavy_is_loaded(app: App) -> None:
    """Else each look would take as long as Hydra's start."""
    program = """
import sys
from hpc_hydra._command.app import app
for words in sys.argv[1:]:
    app(words.split(), standalone_mode=False)
heavy = {"cloudpickle", "hydra", "matplotlib", "numpy", "omegaconf", "pandas", "submitit", "wandb"}
print(heavy & {*sys.modules}, file=sys.stderr)
"""
    commands = ("ls", f"status {app.sweep}", f"logs {app.sweep} 0", f"show {app.sweep} 0")
    ended = subprocess.run(
        [sys.executable, "-c", program, *commands], capture_output=True, text=True
    )
    assert ended.stderr == "set()\n"


def test_damaged_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a run is passed over, that of a sweep has to be mended; other sweeps are listed all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    good, bad = (
        made(tmp_path / name, ["lr=1", "lr=2"], [0.5, [0.5, "\x1b[31mred"]])
        for name in ("good", "bad")
    )
    for text in ("null", '{"state": "COMPL', "\udcff"):
        (good / "0" / "run.json").write_text(text, errors="surrogateescape")
        shown = hpc("status", good)
        assert f"{good}/0/run.json is damaged" in shown.stderr
        assert "2 runs: 1 lost, 1 completed" in shown.stdout
    assert "\x1b" not in shown.stdout + hpc("results", good).stdout
    assert "0.5" in hpc("show", good, "1").stdout
    with records.index().open("ab") as file:
        file.write(b"\xff\xfe\n")
    whole = (bad / "sweep.json").read_text()
    no_cluster = json.loads(whole)
    del no_cluster["cluster"]
    for text in ('{"runs": [', "", "{}", json.dumps(no_cluster)):
        (bad / "sweep.json").write_text(text)
        assert f"{bad}/sweep.json is damaged" in hpc("status", bad).stderr
        assert "good" in (listed := hpc("ls")).stdout
        assert f"{bad}/sweep.json is damaged" in listed.stderr
    (bad / "sweep.json").write_text(whole.replace('"format": 1', '"format": 2'))
    assert (
        f"{bad}/sweep.json is of hpc-hydra {records.library_version()}, whose" in hpc("ls").stderr
    )
    (bad / "sweep.json").write_text(whole)
    no_log = whole.replace('"log": "jobs/7_0.out", ', "").replace(
        '"log": "jobs/7_1.out"', '"log": null'
    )
    (bad / "sweep.json").write_text(no_log)
    assert hpc("ls").stderr == ""
    (bad / "submitted.jsonl").write_text("[{\n")
    assert f"{bad}/submitted.jsonl is damaged" in hpc("ls").stderr


def test_sweeps_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is no longer the user's, a file system that is away: others are listed all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweeps = [made(tmp_path / name, ["lr=1"], [0.5]) for name in ("good", "closed")]
    records._remember(tmp_path / ("x" * 300))  # the system refuses to look for it
    (sweeps[1] / records.SWEEP).unlink()
    (sweeps[1] / records.SWEEP).mkdir()
    for words in (["ls"], ["clean"]):
        shown = hpc(*words)
        assert shown.returncode == 0 and "closed/sweep.json" in shown.stderr
    assert str(sweeps[0]) in hpc("ls").stdout


def test_nobody_is_called_so() -> None:
    """The shell leaves a name with a tilde to the command then."""
    assert "~nobody_at_all: no sweep has" in hpc("status", "~nobody_at_all").stderr


def test_a_pipe_that_is_closed_ends_it_quietly(app: App) -> None:
    """As `hpc show 0 | head -1` does."""
    read, write = os.pipe()
    os.close(read)
    for words in (["ls"], ["show", app.sweep, "0"], ["status", app.sweep]):
        ended = subprocess.run(
            [sys.executable, "-m", "hpc_hydra", *words],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ended.stderr == ""
    os.close(write)


def test_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is none, no room, or no such character in the locale; the report has some, too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    sweep = made(tmp_path / "é", ["lr=1"], [0.5])
    page = tmp_path / "page.html"
    command = f"{sys.executable} -m hpc_hydra"
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words, code, said in (
        (f"report {sweep} -o {page} >&-", 0, ""),
        (f"show {sweep} 0 >/dev/full", 1, "[Errno 28] No space left on device\n"),
        (f"show {sweep} 0", 0, ""),
    ):
        ended = subprocess.run(
            f"{command} {words}", shell=True, env=plain, capture_output=True, text=True
        )
        assert (ended.returncode, ended.stderr) == (code, said)
    assert r"\udcc3\udca9" in ended.stdout and "▲" in page.read_text(encoding="utf-8")
