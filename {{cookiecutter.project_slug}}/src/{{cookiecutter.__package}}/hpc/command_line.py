"""What is done to the command line before Hydra reads it."""

import sys
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException


def prepared(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with ``--multirun`` at the end if it stands anywhere or a preset is chosen.

    The preset sets hydra.mode, too; but Hydra learns that only from a faultless command line, and
    would complain of a missing ``--multirun`` instead of the fault.

    Raises:
        SystemExit: the command line sweeps over ``setup``. One sweep has one launcher: the default
            one, which would run everything on this machine.
    """
    setup = _setup(arguments)
    if setup and setup.is_sweep_override():
        sys.exit("setup: a command line has one preset. Type the command once for each of them.")
    others = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    options = [argument for argument in others if argument.startswith("-")]  # --help, --cfg, ...
    if len(others) < len(arguments) or (setup and not options):
        return [*others, "--multirun"]
    return others


def _setup(arguments: Sequence[str]) -> Override | None:
    """The override that chooses a preset, if there is one."""
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except HydraException:  # an option, or an error that Hydra itself will explain
            continue
        if override.key_or_group == "setup":
            return override
    return None
