"""Registers with Hydra the launchers `hpc_slurm` and `hpc_local`, and the sweeper `hpc`.

Hydra takes plugins only from modules below `hydra_plugins`, and imports all of them at every start.
"""

from inspect import signature
from typing import Any

from hydra.core.config_store import ConfigStore

from hpc_hydra._hydra import basic_sweeper, share_config_store
from hpc_hydra._launch import config, local, slurm, sweeper


class SlurmLauncher(slurm.SlurmLauncher):
    """`hydra/launcher=hpc_slurm`."""


class LocalLauncher(local.LocalLauncher):
    """`hydra/launcher=hpc_local`."""


basic = basic_sweeper()
if basic:

    class Sweeper(sweeper.QuickCheck, basic):  # type: ignore[misc, valid-type]
        """`hydra/sweeper=hpc`."""


share_config_store()
_store = ConfigStore.instance()
# A job has the command's store, and these in it: Hydra 1.4 warns of what is stored once more.
_once_more: Any = {"replace": True} if "replace" in signature(_store.store).parameters else {}
_sweeper = config.SweeperConf if basic else _store.load("hydra/sweeper/basic.yaml").node
for _group, _name, _node in (
    ("hydra/launcher", "hpc_slurm", config.SlurmConf),
    ("hydra/launcher", "hpc_local", config.LocalConf),
    ("hydra/sweeper", "hpc", _sweeper),
):
    _store.store(group=_group, name=_name, node=_node, provider="hpc_hydra", **_once_more)
