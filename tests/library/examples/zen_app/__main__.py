import sys

import hydra
from hydra_zen import zen
from omegaconf import DictConfig

from hpc_hydra import with_multirun

from . import store, train


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config: DictConfig) -> object:
    return zen(train)(config)


sys.argv[1:] = with_multirun(sys.argv[1:])
store.add_to_hydra_store()
main()
