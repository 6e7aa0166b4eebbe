import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc_hydra import _signals as signals

from . import hpc_command
from .examples import zen_app as zen_example
from .using import EXAMPLES, App


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that at the end not all wait for them."""
    longest = ("tracking", "report", "pytorch", "hpc_watch", "hpc_clean")
    place = {Path(__file__).with_name(f"test_{name}.py"): at for at, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the caller's Slurm job, W&B and Git, Python's own defaults, and no trace in the caller's home."""
    patch = pytest.MonkeyPatch()
    for name in os.environ:
        if name.startswith(("SLURM_", "SUBMITIT_", "WANDB_", "PYTHON", "GIT_")):
            patch.delenv(name)
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    patch.setenv("GIT_CONFIG_GLOBAL", str(Path(__file__).parents[1] / "gitconfig"))
    zen_example.store.add_to_hydra_store()
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def default_term() -> Iterator[None]:
    """Also where a throwaway cluster, of other tests in this process, has a handler for it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def no_signal_handler_left(default_term: None) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before
    assert not signals.before_hand_over and not signals.unheard


@pytest.fixture
def zen_app(tmp_path: Path) -> Iterator[App]:
    """A package with a hydra-zen store, presets and our callback."""
    yield from copied("zen_app", tmp_path / "folder" / "zen_app", "-m", "zen_app")


@pytest.fixture
def yaml_app(tmp_path: Path) -> Iterator[App]:
    """A script with YAML files, of which two lines name what is ours."""
    yield from copied("yaml_app", tmp_path / "folder", "app.py", "--multirun")


def copied(name: str, to: Path, *start: str) -> Iterator[App]:
    """A copy of an example in the folder ``to``."""
    shutil.copytree(EXAMPLES / name, to, ignore=shutil.ignore_patterns("__pycache__"))
    app = App(to if (to / "app.py").exists() else to.parent, *start)
    yield app
    app.end()


@pytest.fixture
def hpc() -> Callable[..., str]:
    """Type the command `hpc`: what it prints, or, where it fails, what it complains of."""

    def call(*arguments: str | Path, code: int = 0) -> str:
        ended = hpc_command.hpc(*arguments)
        assert ended.returncode == code, ended.stderr
        return ended.stderr if code else ended.stdout

    return call
