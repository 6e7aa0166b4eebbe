"""The command: fill the store, then run the task under Hydra.

One run here, or a sweep of runs on the cluster:

    python -m {{ cookiecutter.__package }} model=mlp lr=0.1
    python -m {{ cookiecutter.__package }} +setup=hpc_gpu model=mlp lr=0.1,0.01 seed=1,2,3
"""

import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra_zen import zen
from omegaconf import DictConfig

from .configs import store
from .hpc import signals
from .task import train


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def run(cfg: DictConfig) -> object:
    """One run: the task, with Slurm's signals handled as ``signal_policy`` says."""
    warning_s = getattr(HydraConfig.get().launcher, "signal_delay_s", 120)
    with signals.handled(cfg.signal_policy, warning_s):
        return zen(train)(cfg)


def setup_override(arguments: Sequence[str]) -> Override | None:
    """The override that chooses a preset, if there is one."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException:  # an option, or an error that Hydra itself will explain
            continue
        if override.key_or_group == "setup":
            return override
    return None


def main() -> None:
    """Entry point of ``python -m {{ cookiecutter.__package }}`` and of ``{{ cookiecutter.project_slug }}``."""
    setup = setup_override(sys.argv[1:])
    if setup and setup.is_sweep_override():
        # One sweep has one launcher: the default one, which would run everything on this machine.
        sys.exit("setup: a command line has one preset. Type the command once for each of them.")
    # A preset sets hydra.mode, too; but Hydra learns that only from a faultless command line, and
    # would complain of a missing --multirun instead of the fault. The flag may stand anywhere.
    others = [argument for argument in sys.argv[1:] if argument not in ("-m", "--multirun")]
    multirun = len(others) < len(sys.argv) - 1
    if multirun or (setup and not any(argument.startswith("-") for argument in others)):
        sys.argv[1:] = [*others, "--multirun"]
    store.add_to_hydra_store()
    run()


if __name__ == "__main__":
    main()
