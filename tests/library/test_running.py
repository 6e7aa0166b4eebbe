"""A run in a process of many does what Hydra's own run does."""

import os
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from hpc_hydra import _hydra


class Recorder(Callback):
    """Only notes that it was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.calls.append(f"start {config.hydra.job.num}")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self.calls.append(f"end {job_return.status.name}")


def task(config: DictConfig) -> list[Any]:
    if config.seed == 13:
        raise ValueError("thirteen")
    print(config.output_dir, HydraConfig.get().job.override_dirname, os.environ["OF_THE_RUN"])
    return [config.lr, config.output_dir, Path.cwd().name, os.environ["OF_THE_RUN"]]


def run(ours: bool, overrides: list[str], folder: Path) -> str:
    """All that is to be seen of a run: files, configs, what it returned, which callbacks were called."""
    folder.mkdir(parents=True)
    own = [*overrides, "hydra.sweep.dir=sweep", "+hydra.job.env_set.OF_THE_RUN=yes"]
    recorder: Any = Recorder()
    with pytest.MonkeyPatch.context() as patch, initialize(version_base="1.3", config_path=None):
        patch.chdir(folder)
        config = compose("config", own, return_hydra_config=True)
        hydra: Any = GlobalHydra.instance().hydra
        context = HydraContext(config_loader=hydra.config_loader, callbacks=recorder)
        if ours:
            begun = _hydra.begin(config, "7_3", 3)
            returned = _hydra.finish(config, begun, task, context)
        else:
            with open_dict(config.hydra.job):
                config.hydra.job.id, config.hydra.job.num = "7_3", 3
            keys = ("hydra.sweep.dir", "hydra.sweep.subdir")
            returned = run_job(task, config, *keys, hydra_context=context)
        assert Path.cwd() == folder
    files = {
        str(path.relative_to(folder)): path.read_text() if path.suffix == ".yaml" else ""
        for path in folder.rglob("*")
        if path.is_file()
    }
    configs = [OmegaConf.to_yaml(each) for each in (returned.cfg, returned.hydra_cfg)]
    value = _hydra.value_of(returned)
    attributes = (returned.overrides, returned.working_dir, returned.task_name, repr(value))
    assert (returned.status is JobStatus.FAILED) == ("seed=13" in own)
    found = (files, configs, attributes, returned.status, recorder.calls)
    return repr(found).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    "overrides",
    [
        "seed=1",
        "seed=13",
        "seed=1 hydra.job.chdir=true",
        "lr=0.5 hydra.sweep.subdir=${hydra:job.override_dirname}",
        "lr=0.5 hydra.output_subdir=null",
    ],
)
def test_run(overrides: str, tmp_path: Path) -> None:
    theirs, ours = (
        run(ours, overrides.split(), tmp_path / str(ours) / "app") for ours in (False, True)
    )
    assert ours == theirs
