"""The job scripts of a generated repository's presets, without installing it.

    python job_scripts.py < FOLDERS

in an environment with its dependencies: for each line of FOLDERS, a repository, a line of JSON with
a script for each preset, or with the error. A process is forked for each, since importing Hydra takes
longer than all the rest.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra_plugins.hydra_submitit_launcher.submitit_launcher  # noqa: F401
import hydra_zen  # noqa: F401
import submitit  # noqa: F401
from hydra import compose, initialize

from hpc_hydra import job_script


def job_scripts(repository: Path) -> dict[str, str]:
    """The script of each preset that uses Slurm, as sbatch gets it for a sweep of one run."""
    sys.path.insert(0, str(repository / "src"))
    (package,) = (path.name for path in repository.glob("src/*"))
    for name in list(sys.modules):  # of an installed repository with the same name
        if f"{name}.".startswith(f"{package}."):
            del sys.modules[name]
    configs = importlib.import_module(f"{package}.configs")
    configs.store.add_to_hydra_store()
    scripts = {}
    for _, preset in configs.store["setup"]:
        with initialize(version_base="1.3", config_path=None):
            config = compose("config", [f"+setup={preset}"], return_hydra_config=True)
        if "partition" not in config.hydra.launcher:
            continue
        scripts[preset] = job_script(config)
    return scripts


def main() -> None:
    with initialize(version_base="1.3", config_path=None):
        compose(return_hydra_config=True)  # finds Hydra's plugins, for all that are forked
    for line in sys.stdin:
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        try:
            answer: Any = job_scripts(Path(line.rstrip("\n")))
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()
