import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hpc_hydra import read_metrics
from hydra_zen import instantiate

from {{ cookiecutter.__package }} import configs, models, task


@pytest.mark.parametrize("model", [models.logistic, models.mlp])
def test_resumed_equals_uninterrupted(
    model: task.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task.train(model, tmp_path / "whole", epochs=3)
    monkeypatch.setattr(task, "stop_requested", lambda: True)
    assert task.train(model, tmp_path / "parts", epochs=3) is None
    assert task.train(model, tmp_path / "parts", epochs=3) is None
    assert task.train(model, tmp_path / "parts", epochs=3) == whole
    metrics = read_metrics(tmp_path / "whole")
    assert list(metrics) == [1, 2, 3]
    assert read_metrics(tmp_path / "parts") == metrics


@pytest.mark.parametrize("name", [name for _, name in configs.store["model"]])
def test_every_model_of_the_store_learns(name: str, tmp_path: Path) -> None:
    model = instantiate(configs.store["model", name])
    accuracy = task.train(model, output_dir=tmp_path, epochs=10)
    assert accuracy is not None and accuracy > 0.7


@pytest.mark.parametrize("other", [{"lr": 0.5}, {"seed": 1}, {"epochs": 1}])
def test_the_checkpoint_of_another_run_is_refused(other: Any, tmp_path: Path) -> None:
    """In a notebook the same output_dir is easily given twice."""
    task.train(models.mlp, output_dir=tmp_path, epochs=2)
    with pytest.raises(ValueError, match=r"another run|done already"):
        task.train(models.mlp, output_dir=tmp_path, **{"epochs": 2, **other})


def test_the_seed_decides(tmp_path: Path) -> None:
    results = {
        run: task.train(models.mlp, epochs=1, seed=seed, output_dir=tmp_path / run)
        for run, seed in {"a": 1, "b": 1, "c": 2}.items()
    }
    assert results["a"] == results["b"] != results["c"]


def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert task.train(models.mlp, epochs=1, output_dir=tmp_path) is not None
    assert list(tmp_path.iterdir()) == []


def test_typed_itself_it_says_what_to_type() -> None:
    words = [sys.executable, "-m", "{{ cookiecutter.__package }}.task"]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "python -m {{ cookiecutter.__package }} --help" in ended.stderr
