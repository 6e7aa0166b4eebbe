"""Configuration of the launchers and the sweeper: the stock ones' fields and a few more."""

from dataclasses import dataclass
from typing import Any

from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf

PLUGIN = "hydra_plugins.hpc_hydra"
# Not hidden, and one folder for all jobs of the sweep: logs are what people look for.
JOBS = "${hydra.sweep.dir}/jobs"


@dataclass
class CommonConf:
    """What both launchers have beside the stock ones' fields, or otherwise than these."""

    # false: return after submission
    wait: bool = True
    # whether each run of a job has a process of its own
    process_per_run: bool = True
    # whether jobs import a copy of the source as it is at submission
    copy_source: bool = True
    # numbers of the runs to submit, of those that are to do; null: all
    only_runs: list[int] | None = None
    # true: runs that are complete too, from the start; what they have left goes to the folder `earlier`
    redo: bool = False
    # parameters, such as [epochs], whose values may differ from the recorded ones: runs go on with the new
    # values, from their checkpoints, complete ones too
    may_change: list[str] | None = None
    # true: print the job script and ask sbatch whether it would take it, instead of submitting
    test_only: bool = False
    submitit_folder: str = JOBS
    stderr_to_stdout: bool = True


@dataclass
class SlurmConf(CommonConf, SlurmQueueConf):
    """Like `submitit_slurm`; what is null has no line in the job script."""

    _target_: str = f"{PLUGIN}.SlurmLauncher"
    nodes: int | None = 1
    tasks_per_node: int | None = 1
    mem_gb: float | None = None
    nodelist: str | None = None
    exclusive: Any = None  # true, or user
    dependency: str | None = None
    mail_type: str | None = None
    mail_user: str | None = None
    # GPUs of a job on each node; what the request makes of them grows with it
    gpus: int | None = None
    # GPUs of a whole node, for `gpus` to refer to
    gpus_of_node: int | None = None
    # runs in one job: they are shared out over its ranks. 1: all ranks of a job belong to one run
    runs_per_job: int = 1
    # command that starts Python in the job; null: the one that submits
    python: str | None = None
    use_srun: bool = True
    # options of srun, such as --cpus-per-task=4
    srun_args: list[str] | None = None


@dataclass
class LocalConf(CommonConf, LocalQueueConf):
    """Like `submitit_local`, but never more processes than cores; `cpus_per_task` counts."""

    _target_: str = f"{PLUGIN}.LocalLauncher"
    timeout_min: int = 7 * 24 * 60


@dataclass
class SweeperConf:
    """Like `basic`."""

    _target_: str = f"{PLUGIN}.Sweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None
