import os
import signal
from functools import partial
from itertools import count
from multiprocessing import set_forkserver_preload
from pathlib import Path
from unittest.mock import patch

import pytest
from hpc_hydra import pytorch, read_metrics
from hydra_zen import instantiate
from torch.multiprocessing import ProcessExitedException, start_processes

from {{ cookiecutter.__package }} import configs, models, task
from {{ cookiecutter.__package }}.signals import Policy, handled

EXACT = partial(models.cnn, dropout=0.0)  # the same on any number of ranks


def metrics(folder: Path) -> list[float]:
    steps = read_metrics(folder).values()
    return [values[name] for values in steps for name in ("train_loss", "valid_accuracy", "lr")]


def rank_of_two(rank: int, folder: Path, signalled_at: int) -> None:
    """What one of two ranks does; the second is sent a signal before that step."""
    variables = {"GLOBALID": rank, "LOCALID": rank, "NTASKS": 2, "JOB_ID": os.getppid()}
    os.environ.update({f"SUBMITIT_LOCAL_{name}": f"{value}" for name, value in variables.items()})
    steps, whether = count(1), pytorch.stop_requested

    def stop_requested() -> bool:
        if next(steps) == signalled_at and rank == 1:
            os.kill(os.getpid(), signal.SIGUSR2)
        return whether()

    with patch.object(pytorch, "stop_requested", stop_requested), handled(Policy.checkpoint, 60):
        task.train(EXACT, folder, epochs=2, batch_size=16)


def test_two_ranks_stop_together_and_come_to_what_one_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    task.train(EXACT, one, epochs=2, batch_size=32)
    set_forkserver_preload(["sklearn.datasets", "torch._dynamo"])  # seconds, but once only
    ranks = partial(start_processes, rank_of_two, nprocs=2, start_method="forkserver")
    with pytest.raises(ProcessExitedException, match=f"exit code {128 + signal.SIGUSR2}"):
        ranks((two, 30))
    ranks((two, 0))
    assert metrics(two) == pytest.approx(metrics(one), rel=1e-3)


@pytest.mark.parametrize("name", [name for _, name in configs.store["model"]])
def test_every_model_learns_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    model, steps = instantiate(configs.store["model", name]), count(1)
    whole = task.train(model, tmp_path / "whole", epochs=5)
    assert whole is not None and whole > 0.7
    with patch.object(pytorch, "stop_requested", lambda: next(steps) % 70 == 0):
        assert task.train(model, tmp_path / "parts", epochs=5) is None
        assert task.train(model, tmp_path / "parts", epochs=5) is None
    assert task.train(model, tmp_path / "parts", epochs=5) == whole
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
