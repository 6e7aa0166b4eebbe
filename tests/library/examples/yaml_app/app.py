"""An app that knows nothing of hpc-hydra: only its config names the launcher and the sweeper."""

import hydra
from helper import scaled  # type: ignore[import-not-found]
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> object:
    result = scaled(config.model.scale) / config.x
    print("the result is", result)
    return result


main()
