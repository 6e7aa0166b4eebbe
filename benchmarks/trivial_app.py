"""A Hydra app whose runs cost nothing, so that what remains is the launcher's cost.

Both launchers start this app, and not the generated repository's task, whose imports (scikit-learn,
W&B) take longer than either launcher and would hide the difference between them.
"""

import time
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore


@dataclass
class Config:
    seed: int = 0
    sleep_s: float = 0


ConfigStore.instance().store(name="config", node=Config)


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def run(config: Config) -> int:
    """Return a number."""
    time.sleep(config.sleep_s)
    return config.seed


if __name__ == "__main__":
    run()
