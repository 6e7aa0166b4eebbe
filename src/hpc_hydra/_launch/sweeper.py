"""Hydra's basic sweeper, with a faster check of the runs and a plain end."""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException, HydraException

from .._hydra import Composer
from .._overrides import refuse_misfits
from .._recording import LauncherError, RunFailed

NO_PLACE = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


class QuickCheck:
    """Composes the config of each distinct choice of groups, instead of that of each run.

    The plugin puts it before Hydra's class.
    """

    hydra_context: Any
    config: Any
    overrides: Any
    batch_index: int
    launcher: Any

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Raises:
        HydraException: what Hydra raises for the first run that cannot be composed; or what the runs
            add with a + to parameters that know nothing of it, or need and have no value.
        """
        composer = Composer(self.hydra_context.config_loader, self.config)
        for overrides in batch:
            if config := composer.check(overrides):
                refuse_misfits((each for each in overrides if each.startswith("+")), config)

    def split_arguments(self, overrides: Any, max_batch_size: Any) -> Any:
        """`shuffle(...)` comes to the same order whenever the command is repeated for its directory."""
        if max_batch_size is not None and max_batch_size < 1:
            raise LauncherError("hydra.sweeper.max_batch_size: one at least")
        state = random.getstate()
        random.seed(str(Path(self.config.hydra.sweep.dir).absolute()))
        try:
            batches = super().split_arguments(overrides, max_batch_size)  # type: ignore[misc]
        finally:
            random.setstate(state)
        self.launcher.total = sum(map(len, batches))
        return batches

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the runs; end the command with the launcher's own words if it cannot, or if a run failed,
        and with the system's if there is no place for its files."""
        try:
            return self._sweep(arguments)
        except KeyboardInterrupt:  # before the launcher knows of anything
            sys.exit(130)
        except HydraException as error:
            if isinstance(error, CompactHydraException) and not isinstance(error, LauncherError):
                raise  # which Hydra says in a few lines
            said = str(error)
            later = self.overrides[self.batch_index :] if isinstance(error, RunFailed) else ()
            if count := sum(map(len, later)):
                said += f"\n{count} runs of later batches were not submitted."
            sys.exit(said)
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            directory = self.config.hydra.sweep.dir
            sys.exit(f"the sweep cannot write its files to {directory}, or what it says: {error}")

    def _sweep(self, arguments: list[str]) -> Any:
        """Hydra's; of a sweep that ends before there is anything of it no directory is left, and of one that is refused
        for what is in its directory not Hydra's file either."""
        directory = Path(self.config.hydra.sweep.dir)
        file = directory / "multirun.yaml"
        before = file.read_bytes() if file.exists() else b""
        try:
            return super().sweep(arguments)  # type: ignore[misc]
        except BaseException as error:
            with suppress(OSError):
                if [*directory.iterdir()] == [file]:
                    file.unlink()
                    directory.rmdir()
                elif before and type(error) is LauncherError:
                    file.write_bytes(before)
            raise
