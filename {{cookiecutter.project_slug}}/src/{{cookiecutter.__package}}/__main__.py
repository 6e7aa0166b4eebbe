"""The command: fill the store, then run the task under Hydra.

One run here, or a sweep of runs on the cluster:

    python -m {{ cookiecutter.__package }} model=mlp lr=0.1
    python -m {{ cookiecutter.__package }} +setup={{ "hpc_batch" if cookiecutter.gpus_per_node | string | trim == "0" else "hpc_gpu_one" if cookiecutter.framework == "pytorch" else "hpc_gpu" }} model=mlp lr=0.1,0.01 seed=1,2,3
"""

import sys

import hydra
from hpc_hydra import with_multirun
from hydra.core.hydra_config import HydraConfig
from hydra_zen import zen
from omegaconf import DictConfig

from . import signals
from .configs import store
from .task import train


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def run(cfg: DictConfig) -> object:
    """One run: the task, with Slurm's signals handled as ``signal_policy`` says."""
    warning_s = getattr(HydraConfig.get().launcher, "signal_delay_s", 30)
    with signals.handled(cfg.signal_policy, warning_s):
        # zen would resolve cfg in place, which is saved with a run's result: with it the token that
        # ${oc.env:TOKEN} stands for.
        return zen(train, resolve_pre_call=False)(cfg)


def main() -> None:
    """Entry point of ``python -m {{ cookiecutter.__package }}`` and of ``{{ cookiecutter.project_slug }}``."""
    sys.argv[1:] = with_multirun(sys.argv[1:])
    store.add_to_hydra_store()
    run()


if __name__ == "__main__":
    main()
