"""Use an app as its user does: by its command, in its folder, and by the records that it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Ended = subprocess.CompletedProcess[str]
# On this machine one process does all runs of a sweep, which is quicker than to start several.
ONE_PROCESS = "hydra.launcher.cpus_per_task=1000"
EXAMPLES = Path(__file__).parent / "examples"


class App:
    """A copy of an app; sweeps go to ``folder / "sweep"`` and runs to ``folder / "run"`` unless told otherwise."""

    def __init__(self, folder: Path, *start: str) -> None:
        """``start`` is what the command begins with after python's name."""
        self.folder = folder
        self.sweep, self.run = folder / "sweep", folder / "run"
        directories = f"hydra.sweep.dir='{self.sweep}'", f"hydra.run.dir='{self.run}'"
        self.command = [sys.executable, *start, *directories]
        self._groups: list[int] = []
        self._files: list[Path] = []

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Type the command in a terminal of its own, so that Ctrl-C can be sent to all that it starts."""
        # To files, since what goes on after the command would hold a pipe open.
        self._files = [self.folder.parent / name for name in ("stdout", "stderr")]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            process = subprocess.Popen(
                [*self.command, *arguments],
                cwd=self.folder, env={**os.environ, **variables}, text=True, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        self._groups.append(process.pid)
        return process

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        """The end of the command that was typed last."""
        process.wait(timeout=120)
        return Ended(process.args, process.returncode, *(file.read_text() for file in self._files))

    def __call__(self, *arguments: str, **variables: str) -> Ended:
        """Type the command, and wait for its end."""
        return self.ended(self.start(*arguments, **variables))

    def end(self) -> None:
        """Whatever a failed test has left running."""
        for group in self._groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def record(path: Path) -> Any:
    """That at ``path``, which may be a run's or a sweep's directory."""
    if path.is_dir():
        path = next(each for name in ("sweep.json", "run.json") if (each := path / name).exists())
    return json.loads(path.read_text())


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait, as long as the command goes on."""
    while not condition():
        assert process.poll() is None
        time.sleep(0.02)
