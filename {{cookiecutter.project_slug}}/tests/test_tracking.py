import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_file
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from {{ cookiecutter.__package }}.hpc import tracking


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


def test_wandb_that_dies_costs_a_warning(
    callback: tracking.WandbCallback, config: DictConfig, caplog: pytest.LogCaptureFixture
) -> None:
    class Dead:
        def log(self, *arguments: Any, **options: Any) -> None:
            raise ConnectionResetError("Connection lost")

        finish = log

    callback.on_job_start(config)
    alive, tracking._run = tracking._run, Dead()
    tracking.log_metrics({"loss": 1.0}, step=0)
    tracking.log_metrics({"loss": 1.0}, step=1)
    assert caplog.text.count("Connection lost") == 1
    tracking._run = Dead()
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    assert "did not finish" in caplog.text
    alive.finish()


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
    monkeypatch.setattr(tracking, "INIT_TIMEOUT_S", 2)
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
