"""What a Hydra app needs on a Slurm cluster.

A task uses `log_metrics`, `checkpoints`, `stop_requested`, `rank` and `this_process`, which need no
Hydra; an app `stopping`, `ignoring` and `init_worker` for its signals. What a repository's store is made of is
imported when it is asked for: `Site` and the launchers' configs, the callbacks, `with_multirun`.
`pytorch` has what a run with PyTorch needs besides. `load` gives the results of sweeps to a notebook.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import checkpoints
from ._metrics import log_metrics, read_metrics
from ._ranks import Process, rank, this_process
from ._signals import ignoring, init_worker, stop_requested, stopping

if TYPE_CHECKING:
    from . import pytorch
    from ._launch.config import LocalConf, SlurmConf
    from ._launch.slurm import job_script
    from ._overrides import with_multirun
    from ._recording import RecordCallback
    from ._results import load
    from ._site import Site
    from ._tracking import WandbCallback

__all__ = [
    "LocalConf", "Process", "RecordCallback", "Site", "SlurmConf", "WandbCallback", "checkpoints",
    "ignoring", "init_worker", "job_script", "load", "log_metrics", "pytorch", "rank", "read_metrics",
    "stop_requested", "stopping", "this_process", "with_multirun",
]  # fmt: skip

_LATE = {
    "LocalConf": "_launch.config", "SlurmConf": "_launch.config", "job_script": "_launch.slurm",
    "RecordCallback": "_recording", "load": "_results", "Site": "_site", "WandbCallback": "_tracking",
    "with_multirun": "_overrides",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "pytorch":
        return import_module(".pytorch", __name__)
    if name not in _LATE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_LATE[name]}", __name__), name)
