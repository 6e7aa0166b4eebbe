"""Hydra's composition of configs, without the work that it does again and again.

Hydra 1.3 copies the whole ConfigStore for each composition and for each group that `--help` lists, and
composes the config of each run of a sweep from nothing, once to check it and once to run it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

_NUMBER = re.compile(r"((?!hydra\.)[A-Za-z_][\w.]*)=-?(?:0|[1-9]\d*)(\.\d+)?(e-?\d\d?)?")


def share_config_store() -> None:
    """Let Hydra's copies of its sources share one ConfigStore, which they only read: what it hands out
    is a copy anyway."""
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


class Composer:
    """Composes the configs of a sweep's runs: whole for each distinct choice of groups, into a copy of
    which the values of a run are put.

    An override is a value if it replaces a leaf of that config by a scalar, and if no other override of
    the run is about the same node: then neither the order nor the other overrides matter.
    """

    def __init__(self, config_loader: ConfigLoader, sweep: DictConfig) -> None:
        """``sweep`` is the config of the whole sweep."""
        self._loader: Any = config_loader
        self._sweep = sweep
        self._parser = OverridesParser.create()
        self._bases: dict[tuple[str, ...], bytes] = {}  # pickled: quicker to copy than by deepcopy
        self._drafts: dict[tuple[str, ...], DictConfig] = {}  # on which values are tried
        self._shapes: dict[str, tuple[str, str | None]] = {}
        self._fitting: dict[tuple[tuple[str, ...], str], bool] = {}

    def check(self, overrides: Sequence[str]) -> None:
        """See whether a run can be composed.

        Raises:
            HydraException: it cannot; the message is Hydra's own.
        """
        if self._split(overrides) is None:
            self._loader.load_sweep_config(self._sweep, list(overrides))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """What ``ConfigLoader.load_sweep_config`` gives for the run."""
        split = self._split(overrides)
        if split is None:
            whole: DictConfig = self._loader.load_sweep_config(self._sweep, list(overrides))
            return whole
        base, values = split
        config: DictConfig = pickle.loads(base)
        parsed = {override: self._parser.parse_override(override) for override in overrides}
        ConfigLoaderImpl._apply_overrides_to_config([parsed[value] for value in values], config)
        own = [override for override in parsed if not parsed[override].is_hydra_override()]
        config.hydra.overrides.task = own
        naming: Any = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            [parsed[override] for override in own], **naming
        )
        return config

    def _split(self, overrides: Sequence[str]) -> tuple[bytes, list[str]] | None:
        """The config that the run has in common with others, and its values; None if that is not sure."""
        values: list[str] = []
        others: list[str] = []
        keys = []
        for override in overrides:
            key, shape = self._shape(override)
            (others if shape is None else values).append(override)
            keys.append(f"{key}.")
        keys.sort()
        if any(after.startswith(key) for key, after in pairwise(keys)):
            return None
        choice = tuple(others)
        if choice not in self._bases:
            import cloudpickle

            try:
                self._drafts[choice] = self._loader.load_sweep_config(self._sweep, others)
            except Exception:  # whoever composes it whole learns why
                return None
            self._bases[choice] = cloudpickle.dumps(self._drafts[choice])
        if all(self._fits(choice, value) for value in values):
            return self._bases[choice], values
        return None

    def _shape(self, override: str) -> tuple[str, str | None]:
        """Its key, and what it has in common with those that fit wherever it does, all whole numbers for
        that key for instance; None if it is no value."""
        if override not in self._shapes:
            number = _NUMBER.fullmatch(override)
            if number and not self._loader.repository.group_exists(number[1]):
                kind = "float" if number[2] or number[3] else "int"
                self._shapes[override] = number[1], f"{number[1]}={kind}"
            else:
                parsed = self._parser.parse_override(override)
                group = self._loader.repository.group_exists(parsed.key_or_group)
                # The key of a group is not that of the node which it fills.
                key = f"/{parsed.key_or_group}" if group else parsed.key_or_group
                self._shapes[override] = key, override if not group and _scalar(parsed) else None
        return self._shapes[override]

    def _fits(self, choice: tuple[str, ...], value: str) -> bool:
        key, shape = self._shape(value)
        assert shape is not None
        leaf, before = _leaf(self._drafts[choice], key)
        if not leaf:
            return False
        # Not every number fits an enum, which is not told from anything else while it has no value.
        if shape != value and not isinstance(before, bool | int | float | str):
            shape = value
        if (choice, shape) not in self._fitting:
            override = self._parser.parse_override(value)
            try:
                ConfigLoaderImpl._apply_overrides_to_config([override], self._drafts[choice])
                self._fitting[choice, shape] = True
            except HydraException:
                self._fitting[choice, shape] = False
        return self._fitting[choice, shape]


def _leaf(config: DictConfig, key: str) -> tuple[bool, Any]:
    """Whether ``key`` leads to a leaf without going through an interpolation, and its value if it has
    one of its own."""
    *parents, last = key.split(".")
    node: Any = config
    for name in parents:
        if not isinstance(node, DictConfig) or OmegaConf.is_interpolation(node, name):
            return False, None
        node = node.get(name)
    if not isinstance(node, DictConfig) or last not in list(node):
        return False, None
    if OmegaConf.is_missing(node, last) or OmegaConf.is_interpolation(node, last):
        return True, None
    return not OmegaConf.is_config(node[last]), node[last]


def _scalar(override: Override) -> bool:
    value = override.value()
    return (
        override.type is OverrideType.CHANGE
        and not override.is_hydra_override()
        and override.package is None
        and (value is None or isinstance(value, bool | int | float | str))
        and "${" not in str(value)
    )
