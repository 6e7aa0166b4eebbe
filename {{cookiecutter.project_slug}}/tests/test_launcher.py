"""Hydra's own tests of launchers; `TESTED_LAUNCHER` chooses another one than that of this machine."""

import os
import shutil
from collections.abc import Callable

import pytest
from hydra import version
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.test_utils import launcher_common_tests as suites

LAUNCHER = os.environ.get("TESTED_LAUNCHER", "{{ cookiecutter.__package }}_local")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def another_app(hydra_restore_singletons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's own configuration in place of this project's, and the version that the suites are for."""
    version.VersionBase.instance().setbase(version.__compat_version__)
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", {**store.repo, "hydra": {**store.repo["hydra"]}})
    store.store(group="hydra", name="config", node=HydraConf(), provider="hydra")


@pytest.mark.parametrize(("launcher_name", "overrides"), [(LAUNCHER, [])])
class TestLauncher(suites.LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [(LAUNCHER, ["hydra.sweeper.max_batch_size=2"])]
)
class TestBatches(suites.BatchedSweeperTestSuite):
    pass


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["--multirun", f"hydra/launcher={LAUNCHER}"])]
)
class TestIntegration(suites.IntegrationTestSuite):
    def generate_custom_cmd(self) -> Callable[..., list[str]]:
        """Called before each sweep: one test has two in this directory, of different tasks, and the
        second would go on with the first, which is complete."""

        def command(words: list[str], filename: str) -> list[str]:
            shutil.rmtree("cli_dir", ignore_errors=True)
            return words

        return command
