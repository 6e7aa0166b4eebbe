from pathlib import Path
from typing import Any

import pytest
from hydra_zen import instantiate

from {{ cookiecutter.__package }} import configs, models, task


@pytest.mark.parametrize("model", [models.logistic, models.mlp])
def test_resumed_equals_uninterrupted(model: task.Model, tmp_path: Path) -> None:
    whole = task.train(model, tmp_path / "whole", epochs=4)
    task.train(model, epochs=2, output_dir=tmp_path / "parts")
    parts = task.train(model, tmp_path / "parts", epochs=4)
    assert parts == whole
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]
    assert len(metrics[0].splitlines()) == 1 + 4


def test_stops_with_a_checkpoint_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = task.train(models.mlp, epochs=3, output_dir=tmp_path / "whole")
    monkeypatch.setattr(task, "stop_requested", lambda: True)
    assert task.train(models.mlp, epochs=3, output_dir=tmp_path / "stopped") is None
    assert task.train(models.mlp, epochs=3, output_dir=tmp_path / "stopped") is None
    assert task.train(models.mlp, epochs=3, output_dir=tmp_path / "stopped") == whole


@pytest.mark.parametrize("name", [name for _, name in configs.store["model"]])
def test_every_model_of_the_store_trains(name: str, tmp_path: Path) -> None:
    model = instantiate(configs.store["model", name])
    assert task.train(model, output_dir=tmp_path, epochs=1) is not None


@pytest.mark.parametrize("other", [{"lr": 0.5}, {"seed": 1}, {"epochs": 1}])
def test_the_checkpoint_of_another_run_is_refused(other: Any, tmp_path: Path) -> None:
    """In a notebook the same output_dir is easily given twice."""
    task.train(models.mlp, output_dir=tmp_path, epochs=2)
    with pytest.raises(ValueError, match="checkpoints of another run"):
        task.train(models.mlp, output_dir=tmp_path, **{"epochs": 2, **other})


def test_the_seed_decides(tmp_path: Path) -> None:
    results = {
        run: task.train(models.mlp, epochs=1, seed=seed, output_dir=tmp_path / run)
        for run, seed in {"a": 1, "b": 1, "c": 2}.items()
    }
    assert results["a"] == results["b"] != results["c"]


def test_learns_and_draws(tmp_path: Path) -> None:
    accuracy = task.train(models.mlp, epochs=10, output_dir=tmp_path)
    assert accuracy is not None and accuracy > 0.9
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_fails_costs_only_the_plot(tmp_path: Path) -> None:
    (tmp_path / "learning_curve.png").mkdir()
    assert task.train(models.mlp, epochs=1, output_dir=tmp_path) is not None


def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert task.train(models.mlp, epochs=1, output_dir=tmp_path) is not None
    assert list(tmp_path.iterdir()) == []
