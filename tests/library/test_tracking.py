"""W&B's own service, offline: what is in its files, which `wandb sync` reads, when all is over."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from hpc_hydra import WandbCallback, _metrics, _signals, _tracking, log_metrics

from . import wandb_file

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for W&B's service in /proc")


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(_metrics, "_warned", set())
    yield
    assert (services(), _metrics.listeners, _signals.before_hand_over) == ([], [], [])


@pytest.fixture
def callback() -> WandbCallback:
    return WandbCallback("project")


def config_of(directory: Path) -> DictConfig:
    directory.mkdir(exist_ok=True)
    hydra = {
        "runtime": {"output_dir": str(directory)},
        "job": {"id": "1_0"},
        "sweep": {"dir": "/outputs/2026-01-31/23-59-59"},
        "overrides": {"task": ["lr=0.1"]},
    }
    return OmegaConf.create({"lr": 0.1, "hydra": hydra})


def start(callback: WandbCallback, config: DictConfig) -> None:
    _metrics.directory = Path(config.hydra.runtime.output_dir)
    callback.on_job_start(config)


def do(steps: range) -> None:
    for step in steps:
        log_metrics({"loss": 1 / (step + 1)}, step=step)
        print("the task prints")


def end(
    callback: WandbCallback, config: DictConfig, status: JobStatus = JobStatus.COMPLETED
) -> None:
    callback.on_job_end(config, JobReturn(status=status))
    _metrics.directory = None


def run(callback: WandbCallback, config: DictConfig, steps: range) -> None:
    start(callback, config)
    do(steps)
    end(callback, config)


def services(dead: str = "Z") -> list[int]:
    """W&B's service processes of this process, without those that are dead already, in state Z."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(") ")
            state, parent = rest.split()[:2]
            if (name, int(parent)) == ("wandb-core", os.getpid()) and state != dead:
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


def test_a_run(callback: WandbCallback, tmp_path: Path) -> None:
    run(callback, config_of(tmp_path), range(3))
    losses = [{"_step": step, "loss": 1 / (step + 1)} for step in range(3)]
    written = wandb_file.read(tmp_path)
    assert [{key: row[key] for key in ("_step", "loss")} for row in written["history"]] == losses
    assert written["groups"] == {"2026-01-31/23-59-59"}
    assert written["config"]["lr"] == 0.1
    assert written["exits"] == [0]


def test_a_requeued_run_goes_on_in_the_same_wandb_run(
    callback: WandbCallback, tmp_path: Path
) -> None:
    """Stopped with a step more than its checkpoint has."""
    start(callback, config_of(tmp_path))
    do(range(4))
    _signals._leave("SIGUSR2")
    run(callback, config_of(tmp_path), range(3, 6))
    written = wandb_file.read(tmp_path)
    assert [row["_step"] for row in written["history"]] == list(range(6))
    assert (len(written["ids"]), written["exits"]) == (1, [1, 0])
    assert len(wandb_file.segments(tmp_path)) == 2


def test_a_failed_run_is_marked_failed(callback: WandbCallback, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    start(callback, config)
    end(callback, config, JobStatus.FAILED)
    assert wandb_file.read(tmp_path)["exits"] == [1]


def test_what_the_environment_gives_is_not_sent(
    callback: WandbCallback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config takes a token from there; W&B shows the config to others."""
    monkeypatch.setenv("TOKEN", "s3cret")
    config = config_of(tmp_path)
    url = "https://${oc.decode:${oc.env:TOKEN}}@site"
    config.data = {
        "tokens": ["${oc.env:TOKEN}"],
        "url": url,
        "rate": "${lr}",
        "same": "${data.url}",
    }
    config.hydra.overrides.task.append("data.token='${oc.env:TOKEN}'")
    run(callback, config, range(1))
    data = wandb_file.read(tmp_path)["config"]["data"]
    assert data == {"tokens": ["${oc.env:TOKEN}"], "url": url, "rate": 0.1, "same": url}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes()]


def test_without_wandb_a_warning(
    callback: WandbCallback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(callback, config_of(tmp_path), range(1))
    (warning,) = warnings(caplog)
    assert warning.startswith("W&B offline: ModuleNotFoundError")
    assert list(tmp_path.glob("wandb*")) == []


def test_only_the_first_rank_tracks(
    callback: WandbCallback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    run(callback, config_of(tmp_path), range(1))
    assert list(tmp_path.iterdir()) == []


def test_two_runs_in_one_process_stay_two(callback: WandbCallback, tmp_path: Path) -> None:
    """Hydra's own launcher runs a whole sweep in one process."""
    for number in "01":
        run(callback, config_of(tmp_path / number), range(2))
    first, second = (wandb_file.read(tmp_path / number) for number in "01")
    assert first["ids"].isdisjoint(second["ids"])
    for written in (first, second):
        assert [row["_step"] for row in written["history"]] == [0, 1]
        assert written["exits"] == [0]


@linux
@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_killed_service_costs_nothing(
    at: int,
    callback: WandbCallback,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also when it is killed after the last step."""
    config = config_of(tmp_path)
    start(callback, config)
    do(range(at))
    send(signal.SIGKILL)
    do(range(at, 3))
    end(callback, config)
    written = wandb_file.read(tmp_path)
    assert [(row["_step"], row["loss"]) for row in written["history"]] == [
        (step, 1 / (step + 1)) for step in range(3)
    ]
    assert (len(written["ids"]), written["exits"]) == (1, [0])
    (warning,) = warnings(caplog)
    assert warning.startswith("W&B is gone")
    assert services(dead="") == []
    assert len(list(tmp_path.glob("wandb/incomplete/offline-run-*/*.wandb"))) == 1
    assert "Traceback" not in capfd.readouterr().err


@linux
def test_a_service_that_is_killed_between_runs(
    callback: WandbCallback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the task's own W&B run, for instance."""
    import wandb

    wandb.init(mode="offline", dir=tmp_path)
    send(signal.SIGKILL)
    run(callback, config_of(tmp_path / "0"), range(2))
    assert wandb_file.steps(tmp_path / "0") == [0, 1]


@linux
def test_a_service_that_stands_still_does_not_hold_up_the_run(
    callback: WandbCallback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_tracking, "LOG_TIMEOUT_S", 1)
    config = config_of(tmp_path)
    start(callback, config)
    send(signal.SIGSTOP)
    begun = time.monotonic()
    for step in range(20):  # more than a socket holds
        log_metrics({f"loss{number}": 0.1 for number in range(3000)}, step=step)
    assert services() == []
    monkeypatch.setattr(_tracking, "LOG_TIMEOUT_S", 30)  # it is started again, but perhaps slow
    end(callback, config)
    assert time.monotonic() - begun < 30
    (warning,) = warnings(caplog)
    assert "TimeoutError" in warning
    assert wandb_file.steps(tmp_path) == list(range(20))


@linux
def test_three_segments_of_stopped_jobs_are_one_run(
    callback: WandbCallback, tmp_path: Path
) -> None:
    """Slurm's TERM ends W&B's service before the task hears of it."""
    config = config_of(tmp_path)
    for steps in (range(1, 4), range(4, 7)):
        start(callback, config)
        do(steps)
        send(signal.SIGTERM)
        _signals._leave("SIGTERM")
        assert len(wandb_file.segments(tmp_path)) == 1  # to be sent, if this was the end
    run(callback, config, range(7, 9))
    written = wandb_file.read(tmp_path)
    assert [row["_step"] for row in written["history"]] == list(range(1, 9))
    assert len(written["ids"]) == 1
    assert written["exits"][-1] == 0


@linux
def test_what_a_killed_job_had_logged(callback: WandbCallback, tmp_path: Path) -> None:
    """The requeued run tells W&B what it lacks, and what the task does again is in W&B once."""
    config = config_of(tmp_path)
    run(callback, config, range(2))
    code = (
        "import os, pickle, signal, sys\n"
        "from hpc_hydra import WandbCallback, _metrics, _tracking, log_metrics\n"
        "config = pickle.load(sys.stdin.buffer)\n"
        "_metrics.directory = config.hydra.runtime.output_dir\n"
        "WandbCallback('project').on_job_start(config)\n"
        "for step in range(2, 6): log_metrics({'loss': 1 / (step + 1)}, step=step)\n"
        "_tracking._kill_service()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(config))
    assert killed.returncode == -signal.SIGKILL
    run(callback, config, range(4, 8))
    written = wandb_file.read(tmp_path)
    assert [(row["_step"], row["loss"]) for row in written["history"]] == [
        (step, 1 / (step + 1)) for step in range(8)
    ]
    assert (len(written["ids"]), written["exits"]) == (1, [0, 0])


def test_a_killed_job_whose_part_is_on_the_server_already(
    callback: WandbCallback, tmp_path: Path
) -> None:
    """Somebody synced it before it was requeued: W&B would give other numbers to steps it gets again."""
    config = config_of(tmp_path)
    run(callback, config, range(4))
    (tmp_path / "wandb" / "whole.json").unlink()  # as if it had been killed
    (segment,) = wandb_file.segments(tmp_path)
    segment.with_suffix(".wandb.synced").touch()  # these two are what `wandb sync` leaves
    (segment.parent / "files" / "wandb-summary.json").write_text('{"loss": 0.3, "_step": 2}')
    run(callback, config, range(4, 6))
    old, _ = wandb_file.segments(tmp_path)
    assert old == segment
    old.unlink()
    assert wandb_file.steps(tmp_path) == [3, 4, 5]


def test_a_step_that_wandb_does_not_take(
    callback: WandbCallback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path)
    start(callback, config)
    log_metrics({"loss": 0.1, "what": threading.Lock()}, step=0)  # which cannot be copied
    log_metrics({"loss": 0.1}, step=1)
    end(callback, config)
    (warning,) = warnings(caplog)
    assert "step 0 is not taken" in warning
    assert wandb_file.steps(tmp_path) == [1]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 4 MB, which has room for some of W&B's segments."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if os.geteuid() or subprocess.run(mount).returncode:
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
    callback: WandbCallback,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And when there is room again, the requeued run is tracked."""
    config = config_of(tmp_path / "run")
    with small_disk(tmp_path / "run" / what) as disk:
        fill(disk)
        run(callback, config, range(5))
        assert any(
            each.startswith("W&B offline: OSError: [Errno 28] No space left on device")
            for each in warnings(caplog)
        )
        assert len(warnings(caplog)) <= 2  # one of them of `metrics.jsonl`
        assert "Traceback" not in capfd.readouterr().err
        (disk / "filler").unlink()
        run(callback, config, range(5, 7))
        assert wandb_file.steps(tmp_path / "run")[-2:] == [5, 6]


def test_the_disk_becomes_full(
    callback: WandbCallback,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """When there is room again all is in the file, and W&B is told that; the next run in this process is tracked."""
    with small_disk(tmp_path / "0") as disk:
        config = config_of(disk)
        start(callback, config)
        do(range(20))
        fill(disk)
        do(range(20, 1000))
        (disk / "filler").unlink()
        do(range(1000, 1010))
        end(callback, config)
        assert wandb_file.steps(disk) == list(_metrics.read_metrics(disk)) == [*range(1010)]
        assert "Traceback" not in capfd.readouterr().err
    run(callback, config_of(tmp_path / "1"), range(2))
    assert wandb_file.steps(tmp_path / "1") == [0, 1]


def test_an_id_that_cannot_be_kept(
    callback: WandbCallback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A requeued run would become another W&B run."""
    (tmp_path / "wandb_id").mkdir()
    run(callback, config_of(tmp_path), range(1))
    (warning,) = warnings(caplog)
    assert "wandb_id" in warning
    assert list(tmp_path.glob("wandb")) == []


def test_unreachable_it_goes_on_offline(
    callback: WandbCallback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(_tracking, "INIT_TIMEOUT_S", 4)
    run(callback, config_of(tmp_path), range(2))
    assert "W&B online: CommError" in caplog.text
    assert wandb_file.steps(tmp_path) == [0, 1]
