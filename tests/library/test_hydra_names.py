"""Hydra may take away any of its private names: then its own way is gone, and the outcome is the same."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import OmegaConf

from hpc_hydra import RecordCallback, _hydra

from .test_composing import Hydra, assert_same
from .test_running import run

OVERRIDES = (
    "lr=0.5 seed=3", "model=logistic lr=2", "+setup=local seed=1", "lr=abc",
)  # fmt: skip


class Loader:
    """A config loader without some of its attributes."""

    def __init__(self, loader: Any, *lacking: str) -> None:
        self._loader, self._lacking = loader, lacking

    def __getattr__(self, name: str) -> Any:
        if name in self._lacking:
            raise AttributeError(name)
        return getattr(self._loader, name)


@pytest.mark.parametrize(
    "name", ["apply_overrides", "overrides_dirname", "repository", "ConfigRepository.__deepcopy__"]
)
def test_composing_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("ConfigRepository"):
        repository = _hydra._private("_internal.config_repository", "ConfigRepository")
        monkeypatch.delattr(repository, "__deepcopy__", raising=False)
    elif name != "repository":
        monkeypatch.setattr(_hydra, name, None)
    with initialize(version_base="1.3", config_path=None):
        hydra = Hydra()
        if name == "repository":
            loader: Any = Loader(hydra.loader, name)
            hydra.composer = _hydra.Composer(loader, hydra.sweep)
            _hydra.read_copies(loader, Path("/code"), Path("/copy"))  # does what it can
        for overrides in OVERRIDES:
            assert_same(hydra, overrides.split())


@pytest.mark.parametrize("name", ["_dumper", "flush_loggers"])
def test_running_without(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = run(False, ["lr=0.5"], tmp_path / "theirs" / "app")
    monkeypatch.setattr(_hydra, name, (lambda: None) if name == "_dumper" else None)
    assert run(True, ["lr=0.5"], tmp_path / "ours" / "app") == theirs


def test_yaml_is_as_omegaconf_writes_it() -> None:
    texts = [
        "1e3",
        "1_0",
        "yes",
        "null",
        "",
        " a ",
        "ä€\n\tb: c",
        "x" * 200,
        "${a.b}",
        "'\"",
        "#",
        "- a",
        "2026-01-31",
    ]
    numbers = [1, 1.5, 1e-7, 1e20, float("inf"), float("nan"), True, None, JobStatus.FAILED]
    config = OmegaConf.create(
        {"texts": texts, "numbers": numbers, "nested": {"1": {"k": []}, "e": {}}}
    )
    assert _hydra._dumper() is not None
    assert _hydra.to_yaml(config) == OmegaConf.to_yaml(config)


def test_sweeping_without_hydras_sweeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hydra/sweeper=hpc` is `basic` then."""
    with initialize(version_base="1.3", config_path=None):
        basic = compose("config", ["hydra/sweeper=basic"], return_hydra_config=True).hydra.sweeper
    plugin = Path(_hydra.__file__).parents[1] / "hydra_plugins" / "hpc_hydra" / "__init__.py"
    store = ConfigStore.instance()
    sweepers = {**store.repo["hydra"]["sweeper"]}
    monkeypatch.setitem(store.repo["hydra"], "sweeper", sweepers)
    monkeypatch.setattr(_hydra, "basic_sweeper", lambda: None)
    exec(compile(plugin.read_text(), plugin, "exec"), {"__name__": "hydra_plugins.again"})
    with initialize(version_base="1.3", config_path=None):
        ours = compose("config", ["hydra/sweeper=hpc"], return_hydra_config=True).hydra.sweeper
    assert ours == basic


def test_recording_without_hydras_list_of_callbacks() -> None:
    """An app that has no callback of ours is then recorded by what waits for it alone."""
    context: Any = SimpleNamespace(callbacks=SimpleNamespace())
    _hydra.add_callback(context, RecordCallback())
    with initialize(version_base="1.3", config_path=None):
        compose("config")
        loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=SimpleNamespace(callbacks=[]))  # type: ignore[arg-type]
    for _ in range(2):
        _hydra.add_callback(context, RecordCallback())
    assert len(context.callbacks.callbacks) == 1


def test_the_value_of_a_run_without_hydras_attribute() -> None:
    class Returned:
        def __init__(self, value: object) -> None:
            self.value = value

        @property
        def return_value(self) -> object:
            if isinstance(self.value, Exception):
                raise self.value
            return self.value

    error = ValueError("of the task")
    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = error
    assert _hydra.value_of(failed) is error
    for value in (3, error):
        returned: Any = Returned(value)
        assert _hydra.value_of(returned) is value


def test_a_name_that_hydra_lacks_is_none() -> None:
    assert _hydra._private("no.such_module", "Name") is None
    assert _hydra._private("core.utils", "no_such_class", "no_such_method") is None


def test_a_copy_of_hydras_state_has_a_store_of_its_own() -> None:
    """Hydra's fixture `hydra_restore_singletons`, in anybody's tests, lives on that."""
    _hydra.share_config_store()
    state = copy.deepcopy(Singleton.get_state())["instances"]
    assert state[ConfigStore] is not ConfigStore.instance()
    assert state[ConfigStore].repo.keys() == ConfigStore.instance().repo.keys()
