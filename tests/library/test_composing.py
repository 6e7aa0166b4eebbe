"""The quick way to compose a run's config gives what Hydra gives, its complaints included."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from hpc_hydra._hydra import Composer


class Hydra:
    """A sweep, composed by Hydra and by us."""

    def __init__(self) -> None:
        instance = GlobalHydra.instance().hydra
        assert instance is not None
        self.loader: Any = instance.config_loader
        # Without the time, which goes on while the two are compared.
        directories = ["hydra.sweep.dir=/sweep", "hydra.run.dir=/run"]
        self.sweep = compose("config", directories, return_hydra_config=True)
        self.composer = Composer(self.loader, self.sweep)

    def theirs(self, overrides: list[str]) -> DictConfig:
        config: DictConfig = self.loader.load_sweep_config(self.sweep, overrides)
        return config


def assert_same(hydra: Hydra, own: list[str]) -> None:
    """What Hydra composes from these overrides, or what it says against them."""
    try:
        expected = hydra.theirs(own)
    except Exception as complaint:
        for compose_or_check in (hydra.composer.check, hydra.composer.compose):
            with pytest.raises(type(complaint)) as ours:
                compose_or_check(own)
            assert str(ours.value) == str(complaint)
        return
    hydra.composer.check(own)
    config = hydra.composer.compose(own)
    assert config == expected
    assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(expected)
    assert OmegaConf.is_struct(config) == OmegaConf.is_struct(expected)


@pytest.fixture(scope="module")
def hydra() -> Iterator[Hydra]:
    """One for all tests: what was composed before must not matter."""
    with initialize(version_base="1.3", config_path=None):
        yield Hydra()


@pytest.mark.parametrize(
    "overrides",
    [
        "lr=0.1 seed=3",
        "lr=1 seed=-3",
        "seed=4",
        "lr=1e-3 model=logistic",
        "model=logistic model.alpha=0.5",
        "model.alpha=0.5 model=logistic",
        "model.hidden=8 model.alpha=0",
        "+setup=local lr=2",
        "setup=local lr=2",
        "output_dir='a b' lr=0.2",
        "output_dir=${hydra:job.name}",
        "signal_policy=ignore",
        "signal_policy=checkpoint seed=1",
        "~seed lr=3",
        "+extra=1",
        "++lr=5",
        "+extra={a:1} extra.a=2",
        "lr=1 lr=2",
        "model={alpha:1} model.alpha=2",
        "model=null",
        "hydra.verbose=true lr=1",
        "hydra.job.num=3 lr=1",
        # Of all these Hydra complains.
        "lr=abc",
        "seed=0.5",
        "seed=int",
        "seed=null",
        "signal_policy=5",
        "signal_policy=sometimes",
        "modle=mlp",
        "model=nothing",
        "model=logistic model.hidden=3",
        "model.hidden=3 model=logistic",
        "lr@x=1",
        "model.alpha.beta=1",
        "+lr=1",
        "seed=99999999999999999999999 lr=.5",
    ],
)
def test_composed(overrides: str, hydra: Hydra) -> None:
    own = overrides.split(" ") if "'" not in overrides else [overrides.rpartition(" ")[0], "lr=0.2"]
    assert_same(hydra, own)


def test_runs_that_differ_in_values_are_composed_once(
    hydra: Hydra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a tenth of a second, so that a thousand would take minutes."""
    choices: list[list[str]] = []
    load = hydra.loader.load_sweep_config

    def counting(sweep: DictConfig, overrides: list[str]) -> DictConfig:
        choices.append(overrides)
        config: DictConfig = load(sweep, overrides)
        return config

    monkeypatch.setattr(hydra.loader, "load_sweep_config", counting)
    composer = Composer(hydra.loader, hydra.sweep)
    for model in ("mlp", "logistic"):
        for seed in range(50):
            composer.check([f"model={model}", f"seed={seed}", f"lr=0.{seed + 1}", "output_dir=x"])
    assert choices == [["model=mlp"], ["model=logistic"]]


def test_a_config_that_is_changed_does_not_change_the_next_one(hydra: Hydra) -> None:
    """All of Hydra's copies of its sources share the store."""
    before = OmegaConf.to_yaml(hydra.theirs([]))
    for config in (hydra.theirs(["model=logistic"]), hydra.composer.compose(["model=logistic"])):
        config.lr = config.model.alpha = 5
    assert OmegaConf.to_yaml(hydra.theirs([])) == before
    assert hydra.composer.compose(["model=logistic"]).model.alpha == 1e-4
