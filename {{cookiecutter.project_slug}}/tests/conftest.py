import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from {{ cookiecutter.__package }} import cluster, configs
from {{ cookiecutter.__package }}.hpc import signals


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the caller's Slurm job, nothing sent to W&B, no outputs outside of a temporary folder."""
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
    patch.setenv("WANDB_SILENT", "true")
    configs.store.add_to_hydra_store()
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def no_signal_handler_left() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before
    assert signals.before_hand_over == signals.unheard == []


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command; a sweep's directory is ``tmp_path / "sweep"``, a run's ``tmp_path / "run"``."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        directories = [f"hydra.sweep.dir='{tmp_path}/sweep'", f"hydra.run.dir='{tmp_path}/run'"]
        return subprocess.run(
            [sys.executable, "-m", "{{ cookiecutter.__package }}", *directories, *arguments],
            capture_output=True, text=True, env={**os.environ, **variables}, timeout=300,
        )  # fmt: skip

    return run
