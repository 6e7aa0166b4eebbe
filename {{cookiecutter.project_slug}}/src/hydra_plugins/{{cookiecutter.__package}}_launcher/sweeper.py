"""Hydra's basic sweeper, with a faster check of the runs and a plain end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from {{ cookiecutter.__package }}.hpc.composing import Composer
from {{ cookiecutter.__package }}.hpc.runs import LauncherError


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
        """Launch the runs; end the command with the launcher's own words if it cannot, or if a run failed."""
        try:
            return super().sweep(arguments)
        except LauncherError as error:
            sys.exit(str(error))
