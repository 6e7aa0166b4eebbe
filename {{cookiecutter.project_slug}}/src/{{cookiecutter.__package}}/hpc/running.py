"""One run under Hydra, in a process that does many."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import AnyNode, DictConfig, open_dict, read_write

from .runs import typed_overrides


def run(
    config: DictConfig,
    task_function: Callable[[Any], Any],
    callbacks: Any,
    job_id: str,
    number: int,
) -> JobReturn:
    """What `hydra.core.utils.run_job` of Hydra 1.3 does, for a run of a sweep.

    ``config`` is the run's alone: so one copy of it does, where Hydra makes four, which for a short run
    is most of the work.
    """
    before, directory = HydraConfig.instance().cfg, Path.cwd()
    hydra = config.hydra
    with open_dict(hydra.job):
        hydra.job.id, hydra.job.num = job_id, number
    try:
        HydraConfig.instance().cfg = config  # type: ignore[assignment]  # the path may refer to it
        output_dir = Path(hydra.sweep.dir, hydra.sweep.subdir)
        with read_write(hydra.runtime), open_dict(hydra.runtime):
            hydra.runtime.output_dir = str(output_dir.absolute())
        HydraConfig.instance().set_config(config)
        hydra_config: Any = HydraConfig.instance().cfg

        # Without a copy of the hydra node, which Hydra deletes from it afterwards.
        own = copy.deepcopy(config, {id(config._get_node("hydra")): AnyNode()})
        with read_write(own), open_dict(own):
            del own["hydra"]

        output_dir.mkdir(parents=True, exist_ok=True)
        chdir = hydra.job.chdir
        if chdir is None:
            chdir = not version.base_at_least("1.2")
        if chdir:
            os.chdir(output_dir)
        returned = JobReturn(
            overrides=typed_overrides(config),
            cfg=own,
            hydra_cfg=hydra_config,
            working_dir=str(output_dir if chdir else directory),
        )
        utils.configure_log(hydra.job_logging, hydra.verbose)
        if hydra.output_subdir is not None:
            files = Path(hydra.runtime.output_dir, hydra.output_subdir)
            for name, part in (
                ("config", own), ("hydra", hydra_config), ("overrides", hydra.overrides.task)
            ):  # fmt: skip
                utils._save_config(part, f"{name}.yaml", files)
        with utils.env_override(hydra.job.env_set):
            callbacks.on_job_start(config=config, task_function=task_function)
            try:
                returned.return_value = task_function(own)
                returned.status = JobStatus.COMPLETED
            except Exception as error:
                returned.return_value = error
                returned.status = JobStatus.FAILED
        returned.task_name = JobRuntime.instance().get("name")
        utils._flush_loggers()
        callbacks.on_job_end(config=config, job_return=returned)
        hydra_config.hydra._set_parent(hydra_config)  # no longer below the run's config
        return returned
    finally:
        HydraConfig.instance().cfg = before
        os.chdir(directory)
