import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import wandb
import wandb_file
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from {{ cookiecutter.__package }}.hpc import tracking, wandb_log, wandb_run

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for W&B's service in /proc")

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    hydra = {
        "runtime": {"output_dir": str(tmp_path)},
        "job": {"id": "1_0"},
        "sweep": {"dir": "/outputs/2026-01-31/23-59-59"},
        "overrides": {"task": ["lr=0.1"]},
    }
    return OmegaConf.create({"lr": 0.1, "hydra": hydra})


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> tracking.WandbCallback:
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tracking.WandbCallback("project", "disabled")


def run(callback: tracking.WandbCallback, config: Any, steps: range, status: JobStatus) -> None:
    callback.on_job_start(config)
    for step in steps:
        tracking.log_metrics({"loss": 1 / (step + 1)}, step=step)
    callback.on_job_end(config, JobReturn(status=status))


def test_a_requeued_run_goes_on_in_the_same_wandb_run(
    callback: tracking.WandbCallback, config: DictConfig, tmp_path: Path
) -> None:
    callback.on_job_start(config)
    for step in range(3):
        tracking.log_metrics({"loss": 0.1}, step=step)
    callback._on_stop("SIGUSR2")
    run(callback, config, range(3, 5), JobStatus.COMPLETED)
    written = wandb_file.read(tmp_path)
    assert len(written["ids"]) == 1
    assert [row["_step"] for row in written["history"]] == [0, 1, 2, 3, 4]
    assert written["groups"] == {"2026-01-31/23-59-59"}
    assert written["config"]["lr"] == 0.1
    assert written["exits"][-1] == 0


def test_what_the_environment_gives_is_not_sent(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A config takes a token from there; W&B shows the config to others."""
    monkeypatch.setenv("TOKEN", "s3cret")
    config.data = {"tokens": ["${oc.env:TOKEN}"], "rate": "${lr}"}
    config.hydra.overrides.task.append("data.token='${oc.env:TOKEN}'")
    run(callback, config, range(1), JobStatus.COMPLETED)
    data = wandb_file.read(tmp_path)["config"]["data"]
    assert data == {"tokens": ["${oc.env:TOKEN}"], "rate": 0.1}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes()]


def test_a_failed_run_is_marked_failed(
    callback: tracking.WandbCallback, config: DictConfig, tmp_path: Path
) -> None:
    run(callback, config, range(1), JobStatus.FAILED)
    assert wandb_file.read(tmp_path)["exits"] == [1]


def test_without_wandb_a_warning(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(callback, config, range(1), JobStatus.COMPLETED)
    assert "W&B offline: ModuleNotFoundError" in caplog.text
    assert list(tmp_path.glob("wandb")) == []


def services() -> list[int]:
    """W&B's service processes of this process, without those that are dead already."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(") ")
            state, parent = rest.split()[:2]
            if (name, int(parent)) == ("wandb-core", os.getpid()) and state != "Z":
                found.append(int(stat.parent.name))
    return found


def send(number: signal.Signals) -> None:
    """Signal W&B's service; what kills it has done so when this returns."""
    (service,) = services()
    os.kill(service, number)
    while number != signal.SIGSTOP and services():
        time.sleep(0.01)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@linux
@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_a_killed_service_is_started_again(
    at: int,
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And nothing is lost of what it had been told: also when it is killed after the last step."""
    callback.on_job_start(config)
    for step in range(5):
        if step == at:
            send(signal.SIGKILL)
        tracking.log_metrics({"loss": 1 / (step + 1)}, step=step)
        print("the task prints")
    if at == 5:
        send(signal.SIGKILL)
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    written = wandb_file.read(tmp_path)
    assert [(row["_step"], row["loss"]) for row in written["history"]] == [
        (step, 1 / (step + 1)) for step in range(5)
    ]
    assert (len(written["ids"]), written["exits"]) == (1, [0])
    assert written["empty"] == 0  # `wandb sync` would refuse all
    (warning,) = warnings(caplog)
    assert "W&B is gone, and started again: ConnectionResetError" in warning
    assert "Traceback" not in capfd.readouterr().err


@linux
def test_a_service_that_is_killed_again_and_again(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is given up, for this run: the next one in this process is tracked."""
    config.hydra.runtime.output_dir = str(tmp_path / "0")
    (tmp_path / "0").mkdir()
    callback.on_job_start(config)
    for step in range(5):
        if services():
            send(signal.SIGKILL)
        tracking.log_metrics({"loss": 0.1}, step=step)
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    assert ["without it" in warning for warning in warnings(caplog)] == [False, False, True]
    assert wandb_file.read(tmp_path / "0", wait_s=0)["empty"] == 0

    for directory in (tmp_path / "1", tmp_path / "2"):
        config.hydra.runtime.output_dir = str(directory)
        directory.mkdir()
        run(callback, config, range(2), JobStatus.COMPLETED)
        assert [row["_step"] for row in wandb_file.read(directory)["history"]] == [0, 1]
        send(signal.SIGKILL)  # between two runs
    assert len(warnings(caplog)) == 3


@linux
def test_a_service_that_stands_still_does_not_hold_up_the_run(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wandb_run, "LOG_TIMEOUT_S", 1)
    monkeypatch.setattr(tracking, "END_TIMEOUT_S", 1)
    callback.on_job_start(config)
    send(signal.SIGSTOP)
    begun = time.monotonic()
    for step in range(20):  # more than a socket holds
        tracking.log_metrics({f"loss{number}": 0.1 for number in range(3000)}, step=step)
    send(signal.SIGSTOP)
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    assert time.monotonic() - begun < 10
    assert len(warnings(caplog)) == 2
    assert "TimeoutError" in caplog.text
    assert [row["_step"] for row in wandb_file.read(tmp_path)["history"]] == list(range(20))


@linux
def test_three_segments_of_stopped_jobs_are_one_run(
    callback: tracking.WandbCallback, config: DictConfig, tmp_path: Path
) -> None:
    """Slurm's TERM ends W&B's service before the task hears of it."""
    for first, last in ((1, 4), (5, 8)):
        callback.on_job_start(config)
        for step in range(first, last + 1):
            tracking.log_metrics({"loss": 0.1}, step=step)
            if step == 3:
                time.sleep(1.2)  # W&B writes each second, and so has a part of the steps
        send(signal.SIGTERM)
        callback._on_stop("SIGTERM")
    run(callback, config, range(9, 11), JobStatus.COMPLETED)
    written = wandb_file.read(tmp_path)
    assert [row["_step"] for row in written["history"]] == list(range(1, 11))
    assert len(written["ids"]) == 1
    assert written["exits"] == [1, 1, 0]


@linux
def test_what_a_killed_job_had_logged(
    callback: tracking.WandbCallback, config: DictConfig, tmp_path: Path
) -> None:
    """The requeued run logs what W&B lacks, and what the task does again is in W&B once."""
    code = (
        "import os, pickle, signal, sys\n"
        "from {{ cookiecutter.__package }}.hpc import tracking, wandb_run\n"
        "config = pickle.load(sys.stdin.buffer)\n"
        "tracking.WandbCallback('project', 'offline').on_job_start(config)\n"
        "for step in range(6): tracking.log_metrics({'loss': 1 / (step + 1)}, step=step)\n"
        "wandb_run._kill_service()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(config))
    assert killed.returncode == -signal.SIGKILL
    run(callback, config, range(4, 8), JobStatus.COMPLETED)
    written = wandb_file.read(tmp_path)
    assert [(row["_step"], row["loss"]) for row in written["history"]] == [
        (step, 1 / (step + 1)) for step in range(8)
    ]


def test_a_step_that_wandb_does_not_take(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback.on_job_start(config)
    wrong: list[Any] = [({1: 0.1}, 0), ({"loss": 0.1}, None), ({"loss": 0.1}, "0"), (0.1, 0)]
    for metrics, step in wrong:
        tracking.log_metrics(metrics, step=step)
    assert len(warnings(caplog)) == len(wrong)
    assert all("W&B does not take step" in warning for warning in warnings(caplog))
    tracking.log_metrics({"loss": numpy.float32(0.1)}, step=numpy.int64(1))
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    assert [row["_step"] for row in wandb_file.read(tmp_path)["history"]] == [1]
    assert len(warnings(caplog)) == len(wrong)


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    place.mkdir(exist_ok=True)
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", place]).returncode
    ):
        pytest.skip("needs root, and a machine on which it may mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("what", ["wandb", "."], ids=["of W&B's files", "of all files"])
def test_the_disk_is_full_from_the_start(
    what: str,
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And when there is room again, the requeued run is tracked."""
    directory = tmp_path / "run"
    directory.mkdir()
    config.hydra.runtime.output_dir = str(directory)
    with small_disk(directory / what) as disk:
        fill(disk)
        begun = time.monotonic()
        run(callback, config, range(5), JobStatus.COMPLETED)
        assert time.monotonic() - begun < 5
        (warning,) = warnings(caplog)
        assert warning.startswith("W&B offline: OSError: [Errno 28] No space left on device")
        assert "Traceback" not in capfd.readouterr().err
        (disk / "filler").unlink()
        run(callback, config, range(5, 7), JobStatus.COMPLETED)
        assert [row["_step"] for row in wandb_file.read(directory)["history"]] == [5, 6]


@pytest.mark.parametrize("steps", [20, 2000], ids=["just before the end", "long before"])
def test_the_disk_becomes_full(
    steps: int,
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What was written before is there, the next run in this process is tracked."""
    with small_disk(tmp_path / "0") as disk:
        config.hydra.runtime.output_dir = str(disk)
        callback.on_job_start(config)
        for step in range(20):
            tracking.log_metrics({"loss": 0.1}, step=step)
        time.sleep(1.5)  # the service writes each second
        fill(disk)
        begun = time.monotonic()
        for step in range(20, 20 + steps):
            tracking.log_metrics({"loss": 0.1}, step=step)
            print("the task prints")
        callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
        assert time.monotonic() - begun < 10
        (warning,) = warnings(caplog)
        assert "No space left on device" in warning
        assert "Traceback" not in capfd.readouterr().err
        history = wandb_log.steps(disk)
        assert history >= set(range(19))
        assert tracking._current is None

    (tmp_path / "1").mkdir()
    config.hydra.runtime.output_dir = str(tmp_path / "1")
    run(callback, config, range(2), JobStatus.COMPLETED)
    assert [row["_step"] for row in wandb_file.read(tmp_path / "1")["history"]] == [0, 1]


def test_an_id_that_cannot_be_kept(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A requeued run would become another W&B run."""
    (tmp_path / "wandb_id").mkdir()
    run(callback, config, range(1), JobStatus.COMPLETED)
    (warning,) = warnings(caplog)
    assert "wandb_id" in warning
    assert list(tmp_path.glob("wandb")) == []


def test_unreachable_it_goes_on_offline(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb.teardown()  # or it goes on with the settings of the tests before
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_run, "INIT_TIMEOUT_S", 2)
    run(callback, config, range(2), JobStatus.COMPLETED)
    assert "W&B online: CommError" in caplog.text
    assert [row["_step"] for row in wandb_file.read(tmp_path)["history"]] == [0, 1]


def test_only_the_first_rank_tracks(
    callback: tracking.WandbCallback,
    config: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    run(callback, config, range(1), JobStatus.COMPLETED)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_in_one_process_stay_two(
    callback: tracking.WandbCallback, config: DictConfig, tmp_path: Path
) -> None:
    """Hydra's own launcher runs a whole sweep in one process."""
    for number in "01":
        (tmp_path / number).mkdir()
        own = config.copy()
        own.hydra.runtime.output_dir = str(tmp_path / number)
        run(callback, own, range(2), JobStatus.COMPLETED)
    first, second = (wandb_file.read(tmp_path / number) for number in "01")
    assert first["ids"].isdisjoint(second["ids"])
    for written in (first, second):
        assert [row["_step"] for row in written["history"]] == [0, 1]
        assert written["exits"] == [0]
