import os
import re
from collections.abc import Iterator

import pytest

from {{ cookiecutter.__package }} import cluster, configs


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the caller's Slurm job, nothing sent to W&B, no list of sweeps in the home."""
    patch = pytest.MonkeyPatch()
    for name in os.environ:
        if name.startswith(("SLURM_", "SUBMITIT_", "WANDB_")):
            patch.delenv(name)
    # The variables in cluster.py are those of the cluster, and this may be another machine.
    facts = " ".join(str(fact) for name, fact in vars(cluster).items() if name.isupper())
    for name in re.findall(r"\$\{?(\w+)", facts):
        if name not in os.environ:
            patch.setenv(name, str(tmp_path_factory.getbasetemp()))
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("OMP_NUM_THREADS", "1")  # several would wait for each other on a busy machine
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp()))
    configs.store.add_to_hydra_store()
    yield
    patch.undo()
