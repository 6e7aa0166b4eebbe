"""Hydra's basic sweeper, with a faster check of the runs and a plain end."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from {{ cookiecutter.__package }}.hpc.composing import Composer
from {{ cookiecutter.__package }}.hpc.runs import LauncherError

NO_PLACE = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


class Sweeper(BasicSweeper):
    """Composes the config of each distinct choice of groups, instead of that of each run."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Raises:
        HydraException: what Hydra raises for the first run that cannot be composed.
        """
        assert self.hydra_context is not None and self.config is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        for overrides in batch:
            composer.check(overrides)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the runs; end the command with the launcher's own words if it cannot, or if a run failed,
        and with the system's if there is no place for its files."""
        try:
            return super().sweep(arguments)
        except LauncherError as error:
            sys.exit(str(error))
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            assert self.config is not None
            directory = self.config.hydra.sweep.dir
            sys.exit(f"the sweep cannot write its files to {directory}: {error}")
