"""An app that knows nothing of hpc-hydra: two lines of its YAML files name launcher and sweeper."""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from library.hpc_command import hpc
from library.using import ONE_PROCESS, App, record, until
from running import TEMPLATE

SHIPPING = """
import logging
import queue
from logging.handlers import QueueListener


class Handler(logging.Handler):
    def __init__(self, path):
        super().__init__()
        self.queue = queue.Queue()
        self.listener = QueueListener(self.queue, logging.FileHandler(path))
        self.listener.start()

    def emit(self, record):
        self.queue.put(record)

    def close(self):
        if self.listener._thread:
            self.listener.stop()
        super().close()
"""


def git(app: App, *arguments: str) -> str:
    command = ["git", "-C", str(app.folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(yaml_app: App) -> App:
    """The app in a Git repository, all committed."""
    (yaml_app.folder / ".gitignore").write_text("sweep/\n__pycache__/\n")
    git(yaml_app, "init")
    git(yaml_app, "add", ".")
    git(yaml_app, "commit", "--message=first")
    return yaml_app


def test_it_gets_records_the_table_and_an_honest_exit_code(yaml_app: App) -> None:
    ended = yaml_app("x=2,0", ONE_PROCESS)
    assert ended.returncode == 1
    assert "1 of 2 runs did not complete" in ended.stderr
    completed, failed = (record(yaml_app.sweep / number) for number in "01")
    assert (completed["state"], completed["result"]) == ("COMPLETED", 0.5)
    assert (completed["restarts"], completed["error"]) == (0, None)
    assert completed["start"] <= completed["end"]
    assert (completed["git_commit"], completed["git_diff"], completed["source"]) == (None,) * 3
    assert (failed["state"], failed["result"]) == ("FAILED", None)
    assert "ZeroDivisionError" in failed["error"]
    assert "    result = scaled(config.model.scale) / config.x\n" in failed["error"]
    for output in (ended.stdout, hpc("status", yaml_app.sweep).stdout):
        for text in ("x=2", "0.5", "COMPLETED", "FAILED", "2 runs: 1 completed, 1 failed"):
            assert text in output
    log = yaml_app.sweep / record(yaml_app.sweep)["runs"][0]["log"]
    assert "the result is 0.5" in log.read_text()


def test_what_waits_in_slurms_queue_is_not_begun_here_too(yaml_app: App) -> None:
    """Both would write to one directory."""
    assert yaml_app("x=2", ONE_PROCESS).returncode == 0
    sweep = yaml_app.sweep / "sweep.json"
    sweep.write_text(sweep.read_text().replace('"cluster": "local"', '"cluster": "slurm"'))
    shutil.rmtree(yaml_app.sweep / "0")
    # Slurm does not say that there is no such job.
    ended = yaml_app("x=2", ONE_PROCESS, PATH="/nowhere")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    mend = f"wait for them, or hpc cancel {sweep.parent}"
    assert f"1 runs are under way with the other launcher: {mend}" in ended.stderr
    assert not (yaml_app.sweep / "0").exists()


def test_in_a_container_processes_have_the_numbers_of_those_before(yaml_app: App) -> None:
    """Whose runs were given to another one, as a repeated command does it."""
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*container, "true"]).returncode:
        pytest.skip("needs a kernel that lets it make namespaces")
    jobs = yaml_app.sweep / "jobs"
    jobs.mkdir(parents=True)
    for number in range(100):
        (jobs / f"{number}_attempt").write_text("superseded")
    yaml_app.command = [*container, *yaml_app.command]
    ended = yaml_app("x=2", ONE_PROCESS)
    assert ended.returncode == 0, ended.stdout
    assert int(record(yaml_app.sweep)["runs"][0]["job_id"]) < 100


def test_a_run_whose_end_cannot_be_recorded_is_done_again(yaml_app: App) -> None:
    """Because of a file system that fails for a moment: it would be complete, and lost in each table."""
    (yaml_app.folder / "helper.py").write_text(
        "import os\nfrom hpc_hydra import _records\n\nwrite = _records.write\n\n\n"
        "def failing(path, record, durable=True):\n"
        "    if record['state'] == 'COMPLETED':\n        raise OSError(5, 'Input/output error')\n"
        "    write(path, record, durable)\n\n\n"
        "def scaled(scale):\n    if os.path.exists('fails'):\n        _records.write = failing\n    return scale\n"
    )
    (fails := yaml_app.folder / "fails").touch()
    ended = yaml_app("x=1,2", ONE_PROCESS)
    assert ended.returncode == 1 and "the end of the run could not be recorded" in ended.stdout
    fails.unlink()
    assert yaml_app("x=1,2", ONE_PROCESS).returncode == 0
    assert [record(yaml_app.sweep / number)["state"] for number in "01"] == ["COMPLETED"] * 2


def test_directories_that_do_not_have_numbers_for_names(yaml_app: App) -> None:
    """A common setting of Hydra's: the runs are found all the same, after a failure too."""
    subdir = "hydra.sweep.subdir=${hydra.job.override_dirname}"
    assert yaml_app("x=2,0", subdir, ONE_PROCESS).returncode == 1
    assert record(yaml_app.sweep / "x=2")["state"] == "COMPLETED"
    assert (yaml_app.sweep / "0" / "run.json").samefile(yaml_app.sweep / "x=2" / "run.json")
    assert "2 runs: 1 completed, 1 failed" in hpc("status", yaml_app.sweep).stdout
    assert "ZeroDivisionError" in hpc("logs", yaml_app.sweep / "x=0").stdout
    assert "1 of 2 runs" in yaml_app("x=2,0", subdir, ONE_PROCESS).stderr
    assert record(yaml_app.sweep / "x=0")["restarts"] == 1
    again = yaml_app("x=2,0", subdir, ONE_PROCESS, "hydra.launcher.redo=true")
    assert "1 of 2 runs" in again.stderr
    assert record(yaml_app.sweep / "earlier" / "1")["restarts"] == 1
    assert record(yaml_app.sweep / "1")["restarts"] == 0


@pytest.mark.parametrize(
    ("subdir", "complaint"),
    [
        ("${x}", "1 would be the directory of run 0, though numbers are for the runs of these numbers: put a word before it"),
        ("jobs/${x}", "jobs/1 would be the directory of run 0, but jobs is the sweep's own"),
        ("../${x}", "../1 would be the directory of run 0, but has to lie below hydra.sweep.dir"),
        ("same/${model.name}", "same/large would be the directory of runs 0 and 1: each needs one of its own"),
    ],
)  # fmt: skip
def test_directories_that_runs_would_share_are_refused(
    subdir: str, complaint: str, yaml_app: App
) -> None:
    ended = yaml_app("x=1,2", "+model.name=large", f"hydra.sweep.subdir={subdir}")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"hydra.sweep.subdir={subdir}: {complaint}"
    assert not yaml_app.sweep.exists()  # not even an empty one


def test_a_directory_by_a_parameter_is_that_of_the_sweep(yaml_app: App) -> None:
    """All that is said of the runs is found in one place; so are they."""
    ended = yaml_app("x=1,2", ONE_PROCESS, f"hydra.sweep.dir='{yaml_app.sweep}/${{x}}'")
    assert ended.returncode == 0, ended.stderr
    assert "2 runs: 2 completed" in ended.stdout


# What a task does at its end, and what its record says: a state, and a part of the result or the end of the error.
ENDINGS = [
    ("return np.float64(0.5)", "COMPLETED", "0.5"),
    ("return {np.int64(1): 0.9, (1, 2): [np.float32(0.5)]}", "COMPLETED", "{'1': 0.9, '(1, 2)': [0.5]}"),
    ("return 10**5000", "COMPLETED", "a int"),
    ("return (each for each in 'ab')", "COMPLETED", "<generator object"),
    ("return {1: multiprocessing.Lock()}", "COMPLETED", "{'1': '<Lock"),
    ("return 5 if os.fork() else 1 / 0", "COMPLETED", "5"),  # the child is no run
    ("shutil.rmtree(HydraConfig.get().runtime.output_dir); return 3", "COMPLETED", "3"),
    ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", "FAILED", "ended with signal 40"),
    ("sys.exit('no such data')", "FAILED", "SystemExit: no such data"),
    ("raise asyncio.CancelledError('by the server')", "FAILED", "CancelledError: by the server"),
    # As a run that is handed over does, for which nobody has asked.
    ("sys.exit(75)", "FAILED", "75"),
]  # fmt: skip


def test_however_a_task_ends_its_record_says_it(yaml_app: App) -> None:
    """What could not be written, or was no number to exit with, left it RUNNING or a traceback of ours."""
    app = yaml_app.folder / "app.py"
    tasks = "TASKS = []\n" + "".join(
        f"def task(): {does}\nTASKS.append(task)\n" for does, *_ in ENDINGS
    )
    imports = "import asyncio, multiprocessing, os, shutil, signal, sys\nimport numpy as np\nfrom hydra.core.hydra_config import HydraConfig\n"
    text = app.read_text().replace("    return result\n", "    return TASKS[config.x - 1]()\n")
    app.write_text(text.replace("import hydra\n", f"import hydra\n{imports}{tasks}"))
    ended = yaml_app(f"x=range(1,{len(ENDINGS) + 1})", ONE_PROCESS)
    assert f"4 of {len(ENDINGS)} runs did not complete" in ended.stderr
    for number, (does, state, says) in enumerate(ENDINGS):
        there = record(yaml_app.sweep / str(number))
        assert there["state"] == state, does
        if state == "COMPLETED":
            assert says in str(there["result"])
        else:
            assert there["error"].strip().endswith(says)
        log = (yaml_app.sweep / record(yaml_app.sweep)["runs"][number]["log"]).read_text()
        assert "supervisor.py" not in log


@pytest.mark.parametrize("ending", ["raise KeyboardInterrupt", "raise SystemExit(3)"])
def test_a_run_here_that_is_left_is_not_under_way_for_ever(ending: str, yaml_app: App) -> None:
    """As by Ctrl-C, nor does a process that it has forked end it."""
    app = yaml_app.folder / "app.py"
    left = f"    import os\n    os.fork() or exit()\n    os.wait()\n    {ending}\n"
    app.write_text(app.read_text().replace("    return result\n", left))
    recorded = "+hydra.callbacks.record._target_=hpc_hydra.RecordCallback"
    yaml_app.command = [sys.executable, "app.py", f"hydra.run.dir={yaml_app.run}", recorded]
    assert yaml_app().returncode
    there = record(yaml_app.run)
    assert there["state"] == there["attempts"][0]["state"] == "FAILED"
    # Of Hydra 1.4 a callback learns why.
    assert there["error"].startswith(("the command ended before the task had", "Traceback"))


def test_a_task_may_close_what_is_open(yaml_app: App) -> None:
    app = yaml_app.folder / "app.py"
    closing = """    import os, sys
    if config.x < 3:
        sys.stdout.close()
        sys.stderr.close() if config.x == 1 else os.close(1)
    else:
        os.closerange(3, 256)
"""
    app.write_text(app.read_text().replace("    return result\n", f"{closing}    return result\n"))
    assert yaml_app("x=1,2,3", ONE_PROCESS).returncode == 0


@pytest.mark.parametrize(
    "overrides",
    [("x=1",), ("x=1,2", ONE_PROCESS, "hydra.launcher.process_per_run=false")],
    ids=["alone", "several"],
)
def test_a_process_that_does_all_runs_has_imported_the_app(
    overrides: tuple[str, ...], yaml_app: App
) -> None:
    """One that is forked later can use no GPU that was looked at then, and a seed that is set there is none there."""
    (yaml_app.folder / "helper.py").write_text(
        "import os, random\n\nIMPORTED = os.getpid()\nrandom.seed(0)\n\n\n"
        "def scaled(scale):\n    assert os.getpid() == IMPORTED\n    return random.random()\n"
    )
    assert yaml_app(*overrides).returncode == 0
    assert record(yaml_app.sweep / "0")["result"] == random.Random(0).random()


def test_what_runs_of_a_process_use_is_their_own(yaml_app: App) -> None:
    (yaml_app.folder / "helper.py").write_text(
        "import time\n\n\ndef scaled(scale):\n    end_s = time.process_time() + 0.8 * (scale == 100)\n"
        "    while time.process_time() < end_s:\n        pass\n    return 1\n"
    )
    sweep = ("model=large,small", ONE_PROCESS, "hydra.launcher.process_per_run=false")
    assert yaml_app(*sweep).returncode == 0
    used = [record(yaml_app.sweep / run)["attempts"][0]["cpu_s"] for run in "01"]
    assert used[0] >= 0.8 > used[1]


def test_a_handler_of_the_app_is_that_of_each_run(yaml_app: App) -> None:
    (yaml_app.folder / "helper.py").write_text(
        "import os, signal\n\nheard = []\nsignal.signal(signal.SIGALRM, lambda *_: heard.append(1))\n\n\n"
        "def scaled(scale):\n    os.kill(os.getpid(), signal.SIGALRM)\n    return len(heard)\n"
    )
    assert yaml_app("x=1,2", ONE_PROCESS).returncode == 0


@pytest.mark.parametrize("values", ["1", "1,2"])
def test_an_app_that_ends_at_its_import_says_why(values: str, yaml_app: App) -> None:
    """Also where the record takes its time, as on a network file system."""
    with (yaml_app.folder / "helper.py").open("a") as file:
        file.write(
            "\n\nimport os, sys, time\nfrom hpc_hydra import _records\n"
            "if 'SUBMITIT_EXECUTOR' in os.environ:\n"
            "    write = _records.write\n"
            "    _records.write = lambda *what: time.sleep(1) or write(*what)\n"
            "    sys.exit('no data')\n"
        )
    ended = yaml_app(f"x={values}", ONE_PROCESS)
    assert ended.returncode == 1 and "failed: SystemExit: no data" in ended.stdout


def test_a_job_that_failed_is_signalled_as_it_ends(yaml_app: App) -> None:
    """As by srun, for another rank: it would look like one that is to be requeued."""
    (yaml_app.folder / "helper.py").write_text(
        "import os\n\n\ndef scaled(scale):\n    raise ValueError('bad')\n\n\nclass Last:\n"
        "    def __del__(self, kill=os.kill, process=os.getpid()):\n"
        "        kill(process, 15)\n\n\n"
        "if 'SUBMITIT_EXECUTOR' in os.environ:\n    import builtins; builtins.last = Last()\n"
    )
    assert "2 runs: 2 failed" in yaml_app("x=1,2", ONE_PROCESS).stdout
    supervisor = [sys.executable, "-m", "hpc_hydra._job.supervisor"]
    of_submitit = {"SUBMITIT_LOCAL_GLOBALID": "0", "SUBMITIT_LOCAL_JOB_ID": str(os.getpid())}
    ended = subprocess.run(
        [*supervisor, yaml_app.sweep / "jobs" / "submission_0.pkl", "0"],
        cwd=yaml_app.folder, env={**os.environ, **of_submitit}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 1 and "run 1 begins" in ended.stderr


def test_callbacks_are_told_of_the_task(yaml_app: App) -> None:
    """Some record where it comes from."""
    with (yaml_app.folder / "helper.py").open("a") as file:
        file.write(
            "\n\nfrom hydra.experimental.callback import Callback\n\n\nclass Teller(Callback):\n"
            "    def on_job_start(self, config, *, task_function, **more):\n"
            "        print('the task is', task_function.__qualname__)\n"
        )
    assert yaml_app("x=1", "+hydra.callbacks.tell._target_=helper.Teller").returncode == 0
    log = yaml_app.sweep / record(yaml_app.sweep)["runs"][0]["log"]
    assert "the task is main\n" in log.read_text()


def test_batches_after_one_that_failed_are_counted(yaml_app: App) -> None:
    none = yaml_app("x=0", "hydra.sweeper.max_batch_size=0")
    assert none.stderr.endswith("hydra.sweeper.max_batch_size: one at least\n")
    ended = yaml_app("x=0,1,2", "hydra.sweeper.max_batch_size=1")
    assert ended.returncode == 1
    assert ended.stderr.endswith("2 runs of later batches were not submitted.\n")


def test_a_folder_of_jobs_is_of_one_sweep(yaml_app: App, tmp_path: Path) -> None:
    """Runs would find results of the other sweep's, and never begin."""
    ended = yaml_app("x=1", f"hydra.launcher.submitit_folder={tmp_path}/jobs")
    assert ended.returncode == 1 and "is not below hydra.sweep.dir" in ended.stderr


def test_the_files_of_the_readme_are_good_for_this_machine_too(yaml_app: App) -> None:
    """As is said where Slurm is not: no field of its launcher stands in the main config, where hpc_local would not know it."""
    page = (TEMPLATE / "README.md").read_text()
    files = re.findall(r"^# (conf/\S+)\n(.*?)(?=^# |^```)", page, re.DOTALL | re.MULTILINE)
    assert len(files) == 2
    for name, text in files:
        (yaml_app.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (yaml_app.folder / name).write_text(text)
    words = ("+model=small", "+x=1", "lr=0.1,0.01", ONE_PROCESS)
    refused = yaml_app(*words, PATH="/nowhere")
    remedy = "hydra/launcher=hpc_local"
    assert refused.returncode == 1 and remedy in refused.stderr
    done = yaml_app(*words, remedy)
    assert done.returncode == 0, done.stderr


def test_several_runs_in_a_job_are_for_slurm_only(yaml_app: App) -> None:
    """Here each process does several anyway."""
    ended = yaml_app("x=1,2", "hydra.launcher.runs_per_job=2")
    assert ended.returncode == 1
    assert "runs_per_job" in ended.stderr


def test_a_result_that_a_machine_left_empty_as_it_died_is_in_the_record(yaml_app: App) -> None:
    """The disk is waited for once for each run, for its record."""
    assert yaml_app("x=2").returncode == 0
    (result,) = (yaml_app.sweep / "jobs").glob("run_0_0_completed.pkl")
    result.write_bytes(b"")
    before = record(yaml_app.sweep / "0")
    ended = yaml_app("x=2")
    assert ended.returncode == 0, ended.stderr
    assert "no result but that of run.json" in ended.stdout
    assert record(yaml_app.sweep / "0") == before


def test_ranks_that_do_not_know_of_each_other_are_told(yaml_app: App) -> None:
    """An example script's number of tasks is not how many processes a run should have."""
    ended = yaml_app("x=1", "hydra.launcher.tasks_per_node=2")
    assert ended.returncode == 0
    assert "each run has 2 ranks" in ended.stdout


def test_the_rank_that_failed_first_is_shown(yaml_app: App) -> None:
    """Not rank 0, which learns only that its peer is gone, or nothing at all, or is stopped, as by srun; in the
    command's output, its table and the record."""
    failed = yaml_app.sweep / "jobs"
    (yaml_app.folder / "helper.py").write_text(
        "import os, pathlib, time\nfrom hpc_hydra import rank, stop_requested\n\n\ndef scaled(scale):\n"
        "    if rank() == 1:\n        raise ValueError('the cause')\n"
        f"    number = scale - 1\n"
        f"    while not pathlib.Path({str(failed)!r}, f'run_{{number}}_1_failed.pkl').exists():\n"
        "        time.sleep(0.02)\n"
        "    if number == 1:\n        raise ConnectionError('closed by peer')\n"
        "    if number == 2:\n        time.sleep(0.5)\n        os.kill(os.getpid(), 15)\n"
        "        while not stop_requested():\n            time.sleep(0.02)\n    return 1\n"
    )
    ended = yaml_app("model.scale=1,2,3", "hydra.launcher.tasks_per_node=2", ONE_PROCESS)
    assert ended.returncode == 1
    for number in "012":
        run = record(yaml_app.sweep / number)
        assert run["state"] == "FAILED"
        assert "ValueError: the cause" in run["error"] and "closed by peer" not in run["error"]
        assert "the cause" in (yaml_app.sweep / run["log"]).read_text()
        assert run["log"].endswith(f"_run_{number}_1_log.out")
    assert "_run_0_1_log.out" in ended.stdout
    assert "ValueError: the cause" in ended.stdout and "closed by peer" not in ended.stdout


@pytest.mark.parametrize(
    ("end", "why"),
    [("os.kill(os.getpid(), 9)", "ended with SIGKILL"), ("raise ValueError('cause')", "cause")],
    ids=["killed", "raised"],
)
def test_a_rank_that_others_miss_at_once_is_shown(end: str, why: str, yaml_app: App) -> None:
    """They hear of its end before it has told all of it."""
    run, result = yaml_app.sweep / "0" / "run.json", yaml_app.sweep / "jobs" / "run_0_1_failed.pkl"
    (yaml_app.folder / "helper.py").write_text(
        "import os, pathlib, time\nfrom hpc_hydra import rank\n\n\ndef scaled(scale):\n"
        f"    run, result = pathlib.Path({str(run)!r}), pathlib.Path({str(result)!r})\n"
        f"    if rank() == 1:\n        {end}\n"
        "    while '\"failed\"' not in run.read_text():\n        time.sleep(0.01)\n"
        "    soon = time.monotonic() + 0.15\n"
        "    while time.monotonic() < soon and not result.exists():\n        time.sleep(0.01)\n"
        "    raise ConnectionError('closed by peer')\n"
    )
    ended = yaml_app("hydra.launcher.tasks_per_node=2", FORCE_COLOR="1")
    assert why in ended.stderr and "closed by peer" not in ended.stderr
    assert why in record(run)["error"]


def test_ranks_that_raise_whenever_they_are_stopped_go_on(yaml_app: App) -> None:
    """As one may do so for want of another one: a run of theirs is stopped, and not failed."""
    (yaml_app.folder / "helper.py").write_text(
        "import pathlib, time\nfrom hpc_hydra import rank, stop_requested\n\n\ndef scaled(scale):\n"
        "    pathlib.Path(f'began_{rank()}').touch()\n"
        "    while not stop_requested():\n        time.sleep(0.02)\n"
        "    raise RuntimeError('a worker is gone')\n"
    )
    began = [yaml_app.folder / f"began_{rank}" for rank in (0, 1)]
    for error in ("SIGTERM, then RuntimeError: a worker is gone", "SIGTERM"):
        sweeping = yaml_app.start("hydra.launcher.tasks_per_node=2")
        until(lambda: all(path.exists() for path in began), sweeping)
        os.killpg(sweeping.pid, signal.SIGINT)
        assert yaml_app.ended(sweeping).returncode == 130
        run = record(yaml_app.sweep / "0")
        assert (run["state"], run["error"]) == ("STOPPED", error)
        for path in began:
            path.unlink()


def test_each_run_names_the_code_that_it_ran(repository: App) -> None:
    """Also after an edit, when the command is repeated for what had failed."""
    helper = repository.folder / "helper.py"
    original = helper.read_text()
    helper.write_text(original.replace("return scale", "assert scale > 1\n    return scale * 3"))
    assert repository("model=small,large", ONE_PROCESS).returncode == 1
    assert [record(repository.sweep / number)["state"] for number in "01"] == [
        "FAILED",
        "COMPLETED",
    ]
    before = record(repository.sweep / "1")
    failed = record(repository.sweep / "0")
    first = git(repository, "rev-parse", "HEAD").strip()
    assert (before["git_commit"], before["source"]) == (first, "source")
    assert before["result"] == 300
    assert failed["git_diff"] == before["git_diff"] == "jobs/submission_0.diff"

    helper.write_text(original)
    git(repository, "commit", "--allow-empty", "--message=second")
    helper.write_text(original.replace("return scale", "return scale * 7"))
    repeated = repository("model=small,large", ONE_PROCESS)
    assert repeated.returncode == 0, repeated.stderr
    after = record(repository.sweep / "0")
    assert record(repository.sweep / "1") == before
    second = git(repository, "rev-parse", "HEAD").strip()
    assert (after["git_commit"], after["git_diff"]) == (second, "jobs/submission_1.diff")
    assert (after["result"], after["source"]) == (7, "source_2")

    # With these, the code of each is at hand again.
    for run, text in ((before, "scale * 3"), (after, "scale * 7")):
        assert text in (repository.sweep / run["source"] / "helper.py").read_text()
        clone = repository.folder.parent / run["source"]
        git(repository, "worktree", "add", "--detach", str(clone), run["git_commit"])
        git(repository, "-C", str(clone), "apply", str(repository.sweep / run["git_diff"]))
        assert text in (clone / "helper.py").read_text()
    submissions = record(repository.sweep)["submissions"]
    assert [each["git_commit"] for each in submissions] == [first, second]
    assert "app.py" in submissions[0]["command"]


@pytest.mark.parametrize("script", ["app.py", "scripts/app.py"])
def test_what_is_edited_while_jobs_wait_is_not_theirs(script: str, repository: App) -> None:
    """Neither code nor config files: a job may wait for days. A script may have both beside its folder, and be
    started from anywhere."""
    if script != "app.py":
        code = (repository.folder / "app.py").read_text().replace('"conf"', '"../conf"')
        path = "import sys\n\nsys.path.insert(0, __file__.rpartition('/scripts/')[0])\n"
        (repository.folder / "scripts").mkdir()
        (repository.folder / script).write_text(path + code)
        repository.command[1] = str(repository.folder / script)
        repository.folder = repository.folder.parent
    folder = repository.sweep.parent
    conf = folder / "conf" / "model" / "large.yaml"
    # One process does both runs, and waits for the file in the first.
    (folder / "helper.py").write_text(
        "import pathlib, time\n\n\ndef scaled(scale):\n"
        f"    while not pathlib.Path({str(folder / 'go')!r}).exists():\n"
        "        time.sleep(0.02)\n    return scale\n"
    )
    submitted = repository("model=small,large", "hydra.launcher.wait=false", ONE_PROCESS)
    assert submitted.returncode == 0, submitted.stderr
    conf.write_text("scale: 5\n")
    (folder / "helper.py").write_text("def scaled(scale):\n    return -1\n")
    (folder / "go").touch()
    assert repository("model=small,large", ONE_PROCESS).returncode == 0  # waits for them
    assert [record(repository.sweep / number)["result"] for number in "01"] == [1, 100]


def test_code_of_which_git_says_nothing_is_said_not_to_be_copied(repository: App) -> None:
    """Its repository may be damaged, or git too slow: what is edited then reaches the jobs that wait."""
    (repository.folder / ".git" / "HEAD").write_text("damaged")
    ended = repository("x=1", ONE_PROCESS)
    assert f"git lists no files of {repository.folder}: jobs run the code" in ended.stdout
    assert record(repository.sweep)["submissions"][0]["source"] is None


def test_logging_that_starts_a_thread_has_it_in_each_run(yaml_app: App) -> None:
    """What a run has of its logging is made before its process is, which is a copy without threads."""
    (yaml_app.folder / "shipping.py").write_text(SHIPPING)
    handler = "{class: shipping.Handler, path: '${hydra.runtime.output_dir}/shipped.txt'}"
    logging = (
        f"+hydra.job_logging.handlers.ship={handler}",
        "hydra.job_logging.root.handlers=[ship]",
    )
    assert yaml_app("x=2,4", *logging, ONE_PROCESS).returncode == 0
    for number, result in (("0", "0.5"), ("1", "0.25")):
        assert f"with result {result}" in (yaml_app.sweep / number / "shipped.txt").read_text()


@pytest.mark.parametrize(
    ("started", "file", "starts"),
    [
        (("app.py",), "app.py", ("fork", "spawn")),
        (("-m", "study.train"), "study/train.py", ("fork", "spawn")),
        # What Python spawns does not find what is defined there, be it in a job or not.
        (("-m", "study"), "study/__main__.py", ("fork",)),
    ],
)
def test_what_the_script_defines_is_found_by_other_processes(
    started: tuple[str, ...], file: str, starts: tuple[str, ...], yaml_app: App
) -> None:
    """Which look for it in the module that was started."""
    script = yaml_app.folder / file
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"""
import enum, hydra, multiprocessing
class Color(enum.Enum):
    RED = 1
def area(side):
    return side ** 2, Color.RED, __file__
@hydra.main(version_base=None, config_path={str(yaml_app.folder / "conf")!r}, config_name="config")
def main(config):
    for start in {starts}:
        with multiprocessing.get_context(start).Pool(2) as pool:
            (small, color, file), (large, *_) = pool.map(area, [1, config.x])
        assert color is Color.RED and file == __file__
    return small + large
if __name__ == "__main__":
    main()
""")
    subprocess.run(["git", "init", "--quiet"], cwd=yaml_app.folder, check=True)
    yaml_app.command[1:2] = started
    assert yaml_app("x=2").returncode == 0
    assert record(yaml_app.sweep / "0")["result"] == 5


def test_signals_are_ignored_by_the_programs_of_a_run_too(yaml_app: App) -> None:
    (yaml_app.folder / "app.py").write_text("""
import hydra, signal, subprocess
@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    program = subprocess.Popen(["sleep", "0.1"])
    program.send_signal(signal.SIGUSR2)
    return program.wait()
main()
""")
    assert yaml_app("+signal_policy=ignore").returncode == 0
    assert record(yaml_app.sweep / "0")["result"] == 0


def test_an_app_that_another_program_calls(yaml_app: App) -> None:
    """As a test or a notebook does, more than once. Its configs are those of a package then."""
    (yaml_app.folder / "conf" / "__init__.py").touch()
    app = yaml_app.folder / "app.py"
    app.write_text(app.read_text().replace("\nmain()", ""))
    (yaml_app.folder / "calls.py").write_text("import app\napp.main()\napp.main()\n")
    subprocess.run(["git", "init", "--quiet"], cwd=yaml_app.folder, check=True)
    yaml_app.command[1] = "calls.py"
    ended = yaml_app("x=1,2", ONE_PROCESS)
    assert ended.returncode == 0, ended.stderr
    assert record(yaml_app.sweep / "1")["result"] == 0.5


def test_a_command_without_stderr(yaml_app: App) -> None:
    """As of a daemon, which closes it."""
    closed = shlex.join([*yaml_app.command, "x=1,2", ONE_PROCESS]) + " 2>&-"
    assert subprocess.run(closed, shell=True, cwd=yaml_app.folder).returncode == 0
    assert record(yaml_app.sweep / "1")["result"] == 0.5


def test_what_a_run_leaves_behind_ends_with_it(yaml_app: App) -> None:
    """A pool's processes outlive one that is killed: they would hold on to cores and memory of the next run."""
    (yaml_app.folder / "app.py").write_text("""
import hydra, os, pathlib, signal, subprocess
@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    if config.x == 2:
        return [pathlib.Path(f"/proc/{pid}").exists() for pid in pathlib.Path("left").read_text().split()]
    loop = "trap '' TERM; sleep 600 & echo $!; while :; do sleep 1; done"
    deaf = subprocess.Popen(["sh", "-c", loop], stdout=subprocess.PIPE, text=True)
    quiet = subprocess.Popen(["sleep", "600"])
    pathlib.Path("left").write_text(f"{deaf.pid} {quiet.pid} {deaf.stdout.readline()}")
    os.kill(os.getpid(), signal.SIGKILL)
main()
""")
    assert yaml_app("x=1,2", ONE_PROCESS).returncode == 1
    assert record(yaml_app.sweep / "0")["state"] == "FAILED"
    assert record(yaml_app.sweep / "1")["result"] == [False] * 3
