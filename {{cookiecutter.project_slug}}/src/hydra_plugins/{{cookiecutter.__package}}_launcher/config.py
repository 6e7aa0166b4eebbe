"""Configuration of the launchers: the stock ones' fields and a few more, with other defaults."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf

# Not hidden, and one folder for all jobs of the sweep: logs are what people look for.
JOBS = "${hydra.sweep.dir}/jobs"


@dataclass
class SlurmConf(SlurmQueueConf):
    """Like `submitit_slurm`; what is null has no line in the job script."""

    _target_: str = "hydra_plugins.{{ cookiecutter.__package }}_launcher.launcher.SlurmLauncher"
    nodes: int | None = 1
    tasks_per_node: int | None = 1
    # options of srun, such as --cpus-per-task=4
    srun_args: list[str] | None = None
    submitit_folder: str = JOBS
    stderr_to_stdout: bool = True


@dataclass
class LocalConf(LocalQueueConf):
    """Like `submitit_local`, but never more runs at a time than cores; `cpus_per_task` counts."""

    _target_: str = "hydra_plugins.{{ cookiecutter.__package }}_launcher.launcher.LocalLauncher"
    submitit_folder: str = JOBS
    stderr_to_stdout: bool = True
    timeout_min: int = 7 * 24 * 60


for name, node in (("slurm", SlurmConf), ("local", LocalConf)):
    ConfigStore.instance().store(
        group="hydra/launcher",
        name=f"{{ cookiecutter.__package }}_{name}",
        node=node,
        provider="{{ cookiecutter.project_slug }}",
    )
