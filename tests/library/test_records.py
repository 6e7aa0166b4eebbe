import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pytest
from hydra import compose, initialize
from omegaconf import OmegaConf

from hpc_hydra import RecordCallback
from hpc_hydra import _records as records
from hpc_hydra import _squeue as squeue
from hpc_hydra._command.app import app
from hpc_hydra._files import write_atomically
from hpc_hydra._overrides import typed_overrides


def test_two_sweeps_of_one_second_share_no_directory(tmp_path: Path) -> None:
    directory = tmp_path / "2026-01-31" / "23-59-59"
    assert [records.claim(directory).name for _ in range(3)] == [
        "23-59-59", "23-59-59_2", "23-59-59_3"
    ]  # fmt: skip


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """Instead of being taken for a directory of another sweep, whose next number is tried without end."""
    (tmp_path / "2026-01-31").touch()
    with pytest.raises(FileExistsError, match="2026-01-31"):
        records.claim(tmp_path / "2026-01-31" / "23-59-59")


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "a\\b", "a\\'b\\", "a=b,c", "$x", "jürgen"])
def test_jobs_find_the_sweep_directory_whatever_its_name(name: str, tmp_path: Path) -> None:
    """They compose their config from overrides, in which quotes and backslashes have a meaning."""
    typed = ["hydra.sweep.subdir=seed_${hydra.job.num}"]  # which is not known yet
    task: Any = {"run": {"dir": ""}, "overrides": {"hydra": typed, "task": []}, "launcher": {}}
    config = OmegaConf.create({"hydra": {**task, "sweep": {"dir": str(tmp_path / name)}}})
    RecordCallback().on_multirun_start(config)
    with initialize(version_base="1.3", config_path=None):
        overrides = typed_overrides(config, "hydra")
        composed = compose("config", overrides, return_hydra_config=True)
    assert composed.hydra.sweep.dir == str(tmp_path / name)
    assert (tmp_path / name).is_dir()


def test_a_submission_that_goes_on_or_was_killed_is_read_like_any_other(tmp_path: Path) -> None:
    """Of a sweep of many arrays `sweep.json` is written before the first and after the last one."""
    rows: list[dict[str, Any]] = [
        {"number": number, "overrides": [f"lr={number}"], "job_id": None, "log": None}
        for number in range(3)
    ]
    records.record_sweep(tmp_path, "local", ["lr=0,1,2"], rows)
    rows[0]["job_id"], rows[1]["job_id"] = "7_0", "7_1"
    records.note_jobs(tmp_path, rows[:2])
    noted = tmp_path / records.SUBMITTED
    with noted.open("a") as file:
        file.write('[{"number": 2, "overrides": ["lr=2"], "job_')  # killed here
    whole = records.read_sweep(tmp_path)
    assert [run["job_id"] for run in whole["runs"]] == ["7_0", "7_1", None]
    assert [run["state"] for run in records.states(tmp_path)] == [
        "PENDING", "PENDING", "NOT SUBMITTED"
    ]  # fmt: skip
    assert records.read(tmp_path / records.SWEEP)["runs"][0]["job_id"] is None

    rows[2]["job_id"] = "8_0"
    records.record_sweep(tmp_path, "local", ["lr=0,1,2"], rows[2:])
    assert not noted.exists()
    kept = records.read(tmp_path / records.SWEEP)
    assert kept["runs"] == rows
    assert kept["overrides"] == ["lr=0,1,2"] and kept["format"] == records.FORMAT


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_atomically(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "old"


def test_a_record_that_a_machine_left_empty_as_it_died_is_none(tmp_path: Path) -> None:
    """Only that of a run which has just begun is written without waiting for the disk."""
    for content in ("", "\0" * 80):
        (tmp_path / records.RUN).write_text(content)
        assert records.read(tmp_path / records.RUN) == {}


def test_the_table_shows_runs_in_every_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [["+setup=hpc_gpu", f"lr=[{lr}]"] for lr in (1, 2, 3)]
    records.record_sweep(
        tmp_path,
        "local",
        [],
        [
            {"number": number, "overrides": own, "job_id": f"7_{number}", "log": log}
            for number, (own, log) in enumerate(
                zip(overrides, ("jobs/0", "jobs/1", None), strict=True)
            )
        ],
    )
    (tmp_path / "0").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "1").touch()
    result = {"loss": 0.98765, "valid": {"top1": 1, "top5": 2}}
    records.write(
        tmp_path / "0" / records.RUN, {"state": "COMPLETED", "restarts": 1, "result": result}
    )
    records.record_end(tmp_path / "1", overrides[1], "7_1", "Traceback\nValueError: [bad]")
    app(["status", str(tmp_path)], standalone_mode=False)
    output = capsys.readouterr().out
    assert "loss=0.9877, valid.top1=1, valid.top5=2" in output  # as hpc results names them
    for text in ("lr=[1]", "FAILED", "PENDING", "7_2", "ValueError: [bad]", "jobs/1"):
        assert text in output
    assert "hpc_gpu" not in output


@pytest.mark.parametrize("value", [numpy.float32(0.5), numpy.int64(3), numpy.bool_(True)])
def test_scalars_of_numpy_are_numbers_in_a_record(value: Any, tmp_path: Path) -> None:
    """A task returns what its library computes, and a result that is text would have no mean."""
    records.write(tmp_path / records.RUN, {"result": value, "other": {"path": tmp_path}})
    record = records.read(tmp_path / records.RUN)
    assert record["result"] == value.item() and type(record["result"]) is type(value.item())
    assert record["other"] == {"path": str(tmp_path)}
    assert (record["format"], record["library"]) == (1, version("hpc-hydra"))


def test_the_newest_sweep_is_shown_if_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of those that are still there."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(SystemExit) as ended:
        app(["status"])
    assert ended.value.code == 2 and "You have no sweep yet" in capsys.readouterr().err
    run = {"number": 0, "overrides": ["lr=1"], "job_id": "7_0", "log": None}
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        records.record_sweep(tmp_path / name, "local", [], [run])
    shutil.rmtree(tmp_path / "third")
    app(["status"], standalone_mode=False)
    assert f"outputs: {tmp_path}/second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("queue", "states"),
    [
        ({"7_0": "RUNNING", "7_1": "PENDING"}, ["RUNNING", "PENDING"]),
        (
            {"7_0": "RUNNING"},
            ["RUNNING", "CANCELLED"],
        ),  # of which Slurm keeps nothing, as it had not begun
        ({"7_0": "TIMEOUT", "7_1": "CANCELLED"}, ["TIMEOUT", "CANCELLED"]),
        ({"7_0": "NODE_FAIL", "7_1": "PENDING"}, ["LOST", "PENDING"]),
        ({"7_0": "PENDING", "7_1": "PENDING"}, ["REQUEUED", "PENDING"]),
        ({}, ["LOST", "CANCELLED"]),
        (None, ["RUNNING", "PENDING"]),
    ],
)
def test_a_run_whose_job_slurm_no_longer_has_is_lost(
    queue: dict[str, str] | None, states: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record cannot say so: nobody was there to write it."""
    own: list[dict[str, Any]] = [
        {"number": number, "overrides": [], "job_id": f"7_{number}", "log": f"jobs/{number}"}
        for number in range(2)
    ]
    (tmp_path / "jobs").mkdir()
    script = f"{tmp_path}/jobs/.submission_0_0-2.sh"
    unsubmitted = {"number": 2, "overrides": [], "job_id": None}
    records.record_sweep(tmp_path, "slurm", [], [*own, unsubmitted])
    (tmp_path / "0").mkdir()
    records.write(tmp_path / "0" / records.RUN, {"state": "RUNNING", "job_id": "7_0"})
    jobs = None
    if queue is not None:
        jobs = {job: squeue.Job(state, "", "", script) for job, state in queue.items()}
    monkeypatch.setattr(squeue, "jobs", lambda uid: jobs)
    assert [run["state"] for run in records.states(tmp_path)] == [*states, "NOT SUBMITTED"]


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("jobs/.submission_0_0-1.sh", "RUNNING"),
        ("link/jobs/.submission_0_0-1.sh", "RUNNING"),
        ("before/jobs/.submission_0_0-1.sh", "RUNNING"),  # the sweep was moved
        ("other/.submission_0_0-1.sh", "LOST"),
        ("train.sh", "RUNNING"),  # a wrapper of sbatch's may have given it another name
    ],
)
def test_a_number_that_slurm_gives_to_another_job(
    script: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has lost its state, and counts anew: `hpc cancel` would end the job of another sweep."""
    for name in ("jobs", "other", "0"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    run = {"number": 0, "overrides": [], "job_id": "7_0", "log": "jobs/7_0_0_log.out"}
    records.record_sweep(tmp_path, "slurm", [], [run])
    records.write(tmp_path / "0" / records.RUN, {"state": "RUNNING", "job_id": "7_0"})
    job = squeue.Job("RUNNING", "", "", f"{tmp_path}/{script}")
    monkeypatch.setattr(squeue, "jobs", lambda uid: {"7_0": job})
    assert [run["state"] for run in records.states(tmp_path)] == [state]


def test_of_runs_on_another_machine_only_their_records_are_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as those in a copy that was made while they went on."""
    run = {"number": 0, "overrides": [], "job_id": "7", "log": "jobs/7_0_log.out"}
    records.record_sweep(tmp_path, "local", [], [run])
    assert [run["state"] for run in records.states(tmp_path)] == ["LOST"]
    sweep = tmp_path / records.SWEEP
    sweep.write_text(sweep.read_text().replace('"host": "', '"host": "not-'))
    assert [run["state"] for run in records.states(tmp_path)] == ["PENDING"]
    assert "this is as of their records" in caplog.text


def test_what_a_site_hides_of_a_colleagues_jobs_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty answer about somebody else says nothing."""
    run = {"number": 0, "overrides": [], "job_id": "7_0", "log": None}
    records.record_sweep(tmp_path, "slurm", [], [run])
    asked: list[int] = []

    def empty(uid: int) -> dict[str, squeue.Job]:
        asked.append(uid)
        return {}

    monkeypatch.setattr(squeue, "jobs", empty)
    assert [run["state"] for run in records.states(tmp_path)] == ["LOST"]
    monkeypatch.setattr("os.geteuid", lambda: 2**31 - 3)
    assert [run["state"] for run in records.states(tmp_path)] == ["PENDING"]
    assert asked == [tmp_path.stat().st_uid] * 2


def test_the_end_of_a_run_that_could_not_tell_it(tmp_path: Path) -> None:
    """What is known of the end of this job stays; what is known of an earlier one does not."""
    records.write(tmp_path / records.RUN, {"state": "STOPPED", "error": "SIGTERM", "job_id": "7_0"})
    records.record_end(tmp_path, [], "7_0", "CANCELLED")
    records.record_end(tmp_path, [], "7_0", "no longer in Slurm's queue")
    record = records.read(tmp_path / records.RUN)
    assert (record["state"], record["error"]) == ("CANCELLED", "CANCELLED, after SIGTERM")
    records.write(tmp_path / records.RUN, {"state": "COMPLETED", "result": 1, "job_id": "7_1"})
    records.record_end(tmp_path, [], "7_1", "KeyError: 'x'", "CANCELLED")
    assert records.read(tmp_path / records.RUN)["state"] == "COMPLETED"
    records.record_end(tmp_path, [], "7_1", "KeyError: 'x'", "FAILED", failed={"rank": 1})
    assert records.read(tmp_path / records.RUN)["state"] == "FAILED"
    records.record_end(tmp_path, [], "8_0", "TIMEOUT")
    record = records.read(tmp_path / records.RUN)
    assert (record["state"], record["error"], record["job_id"]) == ("TIMEOUT", "TIMEOUT", "8_0")


def test_a_run_that_was_submitted_again_waits_again(tmp_path: Path) -> None:
    run = {"number": 0, "overrides": [], "job_id": "8_0", "log": None}
    records.record_sweep(tmp_path, "local", [], [run])
    (tmp_path / "0").mkdir()
    records.write(
        tmp_path / "0" / records.RUN, {"state": "FAILED", "job_id": "7_0", "error": "memory"}
    )
    assert [run["state"] for run in records.states(tmp_path)] == ["PENDING"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Traceback\n  | ExceptionGroup: g\n  +-+--- 1 ---\n    | ValueError: b\n    +------\n", "ValueError: b"),
        ("ValueError: " + "x" * 10_000, "ValueError: " + "x" * 188 + "…" + "x" * 200),
        ("srun: unrecognized option\nTry 'srun --help' for more information\n", "srun: unrecognized option"),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error\nCompile with TORCH\n", "RuntimeError: CUDA error"),
        ("Traceback (most recent call last):\n  File x\nh.InstantiationException: Error in call to target 'net.Net':\nValueError('bad')\nfull_key: net\n",
         "h.InstantiationException: Error in call to target 'net.Net': ValueError('bad')"),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: Error(s) in loading Net:\n\tsize mismatch for fc\n",
         "RuntimeError: Error(s) in loading Net: size mismatch for fc"),
        ("ValueError: \x1b[31mred", r"ValueError: \x1b[31mred"),
        (None, ""),
    ],
)  # fmt: skip
def test_a_line_says_how_a_run_ended(error: str | None, said: str) -> None:
    assert records.early_end({"state": "FAILED", "error": error}) == f"failed: {said}"


def test_a_run_ran_as_long_as_its_attempts() -> None:
    """Neither while it waited between two of them, nor before one that was cancelled in the queue."""
    first = {"start": "2026-01-31T10:00:00+00:00", "wall_s": 4.6}
    second = {"start": "2026-01-31T11:00:00+00:00"}
    whole = {"start": first["start"], "end": "2026-01-31T12:00:00+00:00"}
    assert records.running_s({**whole, "state": "CANCELLED", "attempts": [first, second]}) == 4.6
    goes_on = records.running_s({**whole, "state": "RUNNING", "attempts": [first, second]})
    assert goes_on and goes_on > 3600
    assert records.running_s({**whole, "state": "COMPLETED"}) == 7200  # as recorded by others
    assert records.running_s({"state": "PENDING"}) is None
    of_a_fast_clock = {"state": "RUNNING", "start": "2999-01-31T10:00:00+00:00"}
    assert records.running_s(of_a_fast_clock) == 0
