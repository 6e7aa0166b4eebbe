"""The overrides of a command line: completed, checked, recorded and shown."""

from __future__ import annotations

import gc
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf


def with_multirun(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with ``--multirun`` at the end if it stands anywhere or a preset is chosen; without it if they
    show the config, which Hydra does of one run.

    The preset sets hydra.mode, too; but Hydra 1.3 learns that only from a faultless command line, and
    would complain of a missing ``--multirun`` instead of the fault; Hydra 1.4 does not learn it.

    Raises:
        SystemExit: the command line sweeps over ``setup``. One sweep has one launcher: the default
            one, which would run everything on this machine. Or it shows the config of several runs. Or it gives all runs
            one ``output_dir``, in which they would overwrite each other's files.
    """
    gc.freeze()  # at a command's start all that is there stays; to look for garbage in it takes a tenth of --help
    parsed = [*_parsed(arguments)]
    setups = [each for each in parsed if each.key_or_group == "setup"]
    if setups and setups[0].is_sweep_override():
        sys.exit("setup: a command line has one preset. Type the command once for each of them.")
    others = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    options = [argument for argument in others if argument.startswith("-")]  # --help, --cfg, ...
    shows = {"--cfg", "-c", "--info", "-i"}.intersection(each.partition("=")[0] for each in options)
    if shows:
        several = " ".join(str(each.input_line) for each in parsed if each.is_sweep_override())
        if several:
            sys.exit(f"{shows.pop()} shows one run: give one value instead of {several}")
        return others
    if len(others) == len(arguments) and (options or not setups):
        return others
    for each in parsed:
        line = str(each.input_line)
        if each.key_or_group == "output_dir" and "${" not in line and not each.is_sweep_override():
            sys.exit(f"{line} would be that of all runs: set hydra.sweep.dir= instead")
    return [*others, "--multirun"]


def _parsed(arguments: Iterable[str]) -> Iterator[Override]:
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            yield parser.parse_override(argument)
        except HydraException:  # an option, or an error that Hydra itself will explain
            continue


def refuse_misfits(overrides: Iterable[str], config: DictConfig) -> None:
    """Refuse what a ``+`` adds to the parameters of a `_target_` in ``config`` that it does not have, and a task,
    or what is made for it, without a value for one that it needs.

    Hydra suggests the + for any unknown name; ignored, it would make runs that only look different.

    Raises:
        ConfigCompositionException: it names all of them.
    """
    faults = []
    for override in _parsed(overrides):
        parent, _, name = override.key_or_group.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        added = override.type in (OverrideType.ADD, OverrideType.FORCE_ADD)
        if not added or not isinstance(node, DictConfig) or "_target_" not in node:
            continue
        target: Any = get_object(str(node._target_))
        parameters = inspect.signature(target).parameters
        known = {*parameters, *getattr(OmegaConf.get_type(node), "__dataclass_fields__", ())}
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        # A group such as +setup=NAME fills another node than that of its name.
        if name in node and name not in known and not open_ended:
            group = "" if parent else f", nor is there a group {name}"
            faults.append(
                f"{target.__name__}() has no parameter {name}{group}: {override.input_line}"
            )
        # What the task itself has it gives to what is partial, and that wins over what was not there before.
        given = name in parameters and parameters[name].default is inspect.Parameter.empty
        partial = parent and "_target_" in config and name in config and node.get("_partial_")
        if given and partial and override.type is OverrideType.ADD:
            why = f"{target.__name__}() gets {name} from the task"
            faults.append(f"{why}: {name}=..., not {override.input_line}")
    if "_target_" in config:
        faults += _needed(config)
    if faults:
        raise ConfigCompositionException("\n".join(faults))


def _needed(node: DictConfig, place: str = "") -> Iterator[str]:
    """What the call that ``node`` stands for, and those within it, need and have no value for."""
    target = str(node.get("_zen_target") or node._target_).rpartition(".")[2]
    if node.get("_partial_") or node.get("_zen_partial") or node.get("_recursive_") is False:
        return  # the code can give it later
    for name in map(str, node):
        key = f"{place}{name}"
        if OmegaConf.is_missing(node, name):
            yield f"{target}() needs a value for {key}: {key}=..."
        elif not OmegaConf.is_interpolation(node, name):
            value = node[name]
            if isinstance(value, DictConfig) and "_target_" in value:
                yield from _needed(value, f"{key}.")


def typed_overrides(config: DictConfig, whose: str = "task") -> list[str]:
    """The overrides of a run or a sweep, or Hydra's own (``"hydra"``): not what ``${oc.env:TOKEN}`` in them stands for,
    as `list` of them would have it."""
    overrides: Any = OmegaConf.to_container(config.hydra.overrides[whose], resolve=False)
    return list(overrides)


def directory_override(key: str, directory: Path) -> str:
    """The override by which Hydra takes ``directory`` as it is, whatever its name."""
    text = str(directory)
    if not re.fullmatch(r"[\w./+-]+", text, re.ASCII):
        text = QuotedString(text, Quote.single).with_quotes()
    return f"{key}={text}"
