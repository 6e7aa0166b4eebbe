"""What depends on Hydra's private names or changes its classes, all of it for speed.

Hydra 1.3 copies the whole ConfigStore for each composition and for each group that `--help` lists,
composes the config of each run of a sweep from nothing, once to check it and once to run it, and copies
it four times more to run it. On a Hydra that lacks a name, it does that work in its own way:

| name | what for | without it |
|---|---|---|
| `ConfigRepository.__deepcopy__`, set here | Hydra's copies of its list of sources share these, and the store | they copy all |
| `ConfigLoaderImpl._apply_overrides_to_config`, `repository` | values are put into a config that was composed once | each run's is composed |
| `get_overrides_dirname` | `hydra.job.override_dirname` of such a config | it is an interpolation (1.4) |
| `_flush_loggers`, `HydraConfig.cfg`, `DictConfig._content` | a run with one copy of its config, on Hydra 1.3 | `run_job` |
| `parse` of OmegaConf | an interpolation is parsed once, for whichever run | each time |
| `OmegaConfDumper` of OmegaConf | YAML is written by libyaml | by Python |
| `BasicSweeper` | a sweep's runs are checked quickly | `hydra/sweeper=hpc` is `basic` |
| `ConfigLoaderImpl.repository` | jobs read config files as they were at submission | as they are |
| `Callbacks.callbacks` | an app without our callback is recorded | only ends are, by the waiting command |
| `JobReturn._return_value` | what a failed run raised, without Hydra's words about it | with them |
"""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import __version__, version
from hydra.core import utils
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, run_job
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import AnyNode, DictConfig, OmegaConf, open_dict, read_write

from ._overrides import typed_overrides


def _private(module: str, *names: str) -> Any:
    """What Hydra has under this name; None if it has no such thing."""
    try:
        found: Any = import_module(f"hydra.{module}")
    except ImportError:
        return None
    for name in names:
        found = getattr(found, name, None)
    return found


apply_overrides = _private(
    "_internal.config_loader_impl", "ConfigLoaderImpl", "_apply_overrides_to_config"
)
overrides_dirname = _private("_internal.config_loader_impl", "get_overrides_dirname")
flush_loggers = _private("core.utils", "_flush_loggers")

_NUMBER = re.compile(r"((?!hydra\.)[A-Za-z_][\w.]*)=-?(?:0|[1-9]\d*)(\.\d+)?(e-?\d\d?)?")


def share_config_store() -> None:
    """Let Hydra's copies of its list of sources share these, and so the one ConfigStore: they are only read,
    and what the store hands out is a copy anyway."""
    if repository := _private("_internal.config_repository", "ConfigRepository"):
        # The list itself may be shared too: Hydra makes a new one when the search path is another one.
        repository.__deepcopy__ = lambda self, memo: copy.copy(self)


def basic_sweeper() -> Any:
    """Hydra's own, to be asked for by a plugin: its module is executed anew when plugins are looked for."""
    return _private("_internal.core_plugins.basic_sweeper", "BasicSweeper")


def value_of(returned: JobReturn) -> Any:
    """What a run returned, or raised."""
    if "_return_value" in vars(returned):
        return vars(returned)["_return_value"]
    try:
        return returned.return_value
    except Exception as error:
        return error


def config_folders(loader: ConfigLoader) -> list[Path]:
    """Where ``loader`` looks for config files, outside of packages."""
    return [folder for _, folder in _folders(loader)]


def read_copies(loader: ConfigLoader, top: Path, copy: Path) -> None:
    """Let ``loader`` read the config files that lie below ``top`` from its ``copy``."""
    for source, folder in _folders(loader):
        if folder.is_relative_to(top) and (copied := copy / folder.relative_to(top)).exists():
            scheme, separator, _ = source.path.rpartition("://")
            source.path = f"{scheme}{separator}{copied}"


def _folders(loader: ConfigLoader) -> Iterator[tuple[Any, Path]]:
    """Each source of ``loader`` that is a folder, and that."""
    sources = getattr(getattr(loader, "repository", None), "sources", [])
    for source in [*sources, *loader.get_search_path().get_path()]:
        scheme, _, path = (source.path or "").rpartition("://")
        if hasattr(source, "scheme"):  # which has it no more in its path: that may be a package
            scheme = source.scheme()
        if path and scheme in ("", "file"):
            yield source, Path(path).resolve()


def add_callback(context: HydraContext, callback: Callback) -> None:
    """Call ``callback`` for the runs of an app that has none of its class."""
    callbacks = getattr(context.callbacks, "callbacks", None)
    if callbacks is not None and not any(isinstance(each, type(callback)) for each in callbacks):
        callbacks.append(callback)


Choice = tuple[str, ...]  # the overrides of a run that are no values


class Shape(NamedTuple):
    """Of an override."""

    key: str
    text: str  # that all have in common which fit wherever it does, such as whole numbers for that key
    value: bool  # whether it replaces a leaf by a scalar


class Composer:
    """Composes the configs of a sweep's runs: whole for each distinct choice of groups, into a copy of
    which the values of a run are put.

    An override is a value if it replaces a leaf of that config by a scalar, and if no other override of
    the run is about the same node: then neither the order nor the other overrides matter.
    """

    def __init__(self, config_loader: ConfigLoader, sweep: DictConfig) -> None:
        """``sweep`` is the config of the whole sweep."""
        self._loader: Any = config_loader
        # Hydra composes this name of a run (1.3), or has an interpolation for it (1.4).
        named = overrides_dirname or OmegaConf.is_interpolation(sweep.hydra.job, "override_dirname")
        self._quick = bool(apply_overrides and named) and hasattr(config_loader, "repository")
        self._sweep = sweep
        self._parser = OverridesParser.create()
        self._is_group = cache(lambda name: bool(self._loader.repository.group_exists(name)))
        self._shape_of, self._takes = cache(self._look_at), cache(self._try)
        # Pickled, which is quicker to copy than by deepcopy; and a draft, on which values are tried.
        self._bases: dict[Choice, tuple[bytes, DictConfig]] = {}
        self._checked: set[Choice] = set()
        self._choices: dict[tuple[Shape, ...], Choice | None] = {}

    def check(self, overrides: Sequence[str]) -> DictConfig | None:
        """See whether a run can be composed; return its config if it is the first one with its choice of groups.

        Raises:
            HydraException: it cannot; the message is Hydra's own.
        """
        choice = self._split(overrides)
        if choice in self._checked:
            return None
        if choice is not None:
            self._checked.add(choice)
        return self.compose(overrides)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """What ``ConfigLoader.load_sweep_config`` gives for the run."""
        choice = self._split(overrides)
        if choice is None:
            whole: DictConfig = self._loader.load_sweep_config(self._sweep, list(overrides))
            return whole
        config: DictConfig = pickle.loads(self._bases[choice][0])
        parsed = {override: self._parser.parse_override(override) for override in overrides}
        apply_overrides([parsed[each] for each in overrides if self._shape(each).value], config)
        own = [each for each in parsed.values() if not each.is_hydra_override()]
        config.hydra.overrides.task = [each.input_line for each in own]
        if overrides_dirname:
            naming: Any = config.hydra.job.config.override_dirname
            config.hydra.job.override_dirname = overrides_dirname(own, **naming)
        return config

    def _split(self, overrides: Sequence[str]) -> Choice | None:
        """The overrides that are no values, of which a config that others have too was composed; None if it
        is not sure that values can be put into that."""
        if not self._quick:
            return None
        shapes = tuple([self._shape(override) for override in overrides])
        if shapes in self._choices:
            return self._choices[shapes]
        keys = sorted(f"{shape.key}." for shape in shapes)
        if any(after.startswith(key) for key, after in pairwise(keys)):
            return None
        pairs = list(zip(overrides, shapes, strict=True))
        choice = tuple(override for override, shape in pairs if not shape.value)
        if choice not in self._bases:
            import cloudpickle

            try:
                draft = self._loader.load_sweep_config(self._sweep, list(choice))
            except Exception:  # whoever composes it whole learns why
                return None
            self._bases[choice] = cloudpickle.dumps(draft), draft
        fits = general = True
        for override, shape in pairs:
            if shape.value and fits:
                leaf, before = _leaf(self._bases[choice][1], shape.key)
                # Not every number fits an enum, which is not told from anything else while it has no value.
                general &= shape.text == override or isinstance(before, bool | int | float | str)
                fits = leaf and self._takes(choice, override)
        if general:
            self._choices[shapes] = choice if fits else None
        return choice if fits else None

    def _shape(self, override: str) -> Shape:
        number = _NUMBER.fullmatch(override)
        if number and not self._is_group(key := number[1]):
            return Shape(key, f"{key} float" if number[2] or number[3] else f"{key} int", True)
        return self._shape_of(override)

    def _look_at(self, override: str) -> Shape:
        parsed = self._parser.parse_override(override)
        group = self._is_group(parsed.key_or_group)
        # The key of a group is not that of the node which it fills.
        key = f"/{parsed.key_or_group}" if group else parsed.key_or_group
        return Shape(key, override, not group and _scalar(parsed))

    def _try(self, choice: Choice, value: str) -> bool:
        try:
            apply_overrides([self._parser.parse_override(value)], self._bases[choice][1])
        except HydraException:
            return False
        return True


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


def share_parsed() -> None:
    """Let OmegaConf keep what it has parsed: runs have the same interpolations, and nobody changes the trees."""
    base: Any = import_module("omegaconf.base")
    if hasattr(base, "parse"):
        base.parse = lru_cache(maxsize=1000)(base.parse)


@cache
def _dumper() -> Any:
    """OmegaConf's dumper of YAML, but with libyaml's emitter; None where one of them is missing."""
    try:
        theirs = import_module("omegaconf._utils").OmegaConfDumper
        dumper = type("Dumper", (yaml.CDumper,), {})
        dumper.add_representer(str, theirs.str_representer)  # type: ignore[attr-defined]
    except AttributeError:
        return None
    return dumper


def to_yaml(config: Any) -> str:
    """What `OmegaConf.to_yaml` gives, four times as quickly."""
    if _dumper() is None:
        return OmegaConf.to_yaml(config)
    text: str = yaml.dump(
        OmegaConf.to_container(config, enum_to_str=True), Dumper=_dumper(),
        default_flow_style=False, allow_unicode=True, sort_keys=False,
    )  # fmt: skip
    return text


def resolve_with(config: Any) -> None:
    """Let ``${hydra:…}`` in configs mean what ``config`` has there, which may have been read from a file."""
    utils.setup_globals()
    HydraConfig.instance().cfg = config


def begin(config: DictConfig, job_id: str, number: int) -> JobReturn | None:
    """What `hydra.core.utils.run_job` does before the task, for a run of a sweep: its directory, its logging and
    Hydra's files. None: on this Hydra `finish` does all of it.

    ``config`` is the run's alone: so one copy of it does, where Hydra 1.3 makes four, which for a short
    run is most of the work.
    """
    hydra = config.hydra
    with open_dict(hydra.job):
        hydra.job.id, hydra.job.num = job_id, number
    with _hydra_config(config):  # the paths may refer to it
        sweep = Path(hydra.sweep.dir).absolute()
        link = sweep / str(number)  # to where the run began, if a subdirectory has another name
        if link.is_symlink() and link.exists():
            with read_write(hydra):
                hydra.sweep.subdir = os.path.relpath(link.resolve(), sweep.resolve())
        if not (__version__.startswith("1.3.") and flush_loggers):
            return None
        output_dir = Path(hydra.sweep.dir, hydra.sweep.subdir)
        with read_write(hydra.runtime), open_dict(hydra.runtime):
            hydra.runtime.output_dir = str(output_dir.absolute())
        # As `HydraConfig.set_config` makes it, with the config's own node instead of a copy.
        OmegaConf.set_readonly(hydra, True)
        node = config._get_node("hydra")
        hydra_config: Any = DictConfig({})
        hydra_config._content["hydra"] = node
        HydraConfig.instance().cfg = hydra_config

        # Without a copy of the hydra node, which Hydra deletes from it afterwards.
        own = copy.deepcopy(config, {id(node): AnyNode()})
        with read_write(own), open_dict(own):
            del own["hydra"]

        output_dir.mkdir(parents=True, exist_ok=True)
        chdir = hydra.job.chdir
        if chdir is None:
            chdir = not version.base_at_least("1.2")
        begun = JobReturn(
            overrides=typed_overrides(config),
            cfg=own,
            hydra_cfg=hydra_config,
            working_dir=str(output_dir if chdir else Path.cwd()),
        )
        os.chdir(str(begun.working_dir))
        utils.configure_log(hydra.job_logging, hydra.verbose)
        if hydra.output_subdir is not None:
            files = Path(hydra.runtime.output_dir, hydra.output_subdir)
            files.mkdir(parents=True, exist_ok=True)
            for name, part in (
                ("config", own), ("hydra", hydra_config), ("overrides", hydra.overrides.task)
            ):  # fmt: skip
                Path(files, f"{name}.yaml").write_text(to_yaml(part), encoding="utf-8")
        return begun


def finish(
    config: DictConfig,
    begun: JobReturn | None,
    task_function: Callable[[Any], Any],
    context: HydraContext,
) -> JobReturn:
    """What `run_job` does from there on, with what `begin` gave for this ``config``."""
    if begun is None:
        keys = ("hydra.sweep.dir", "hydra.sweep.subdir")
        return run_job(task_function, config, *keys, hydra_context=context)
    hydra_config: Any = begun.hydra_cfg
    with _hydra_config(hydra_config):
        os.chdir(str(begun.working_dir))
        with utils.env_override(config.hydra.job.env_set):
            context.callbacks.on_job_start(config=config, task_function=task_function)
            try:
                begun.return_value = task_function(begun.cfg)
                begun.status = JobStatus.COMPLETED
            except Exception as error:
                begun.return_value = error
                begun.status = JobStatus.FAILED
        begun.task_name = JobRuntime.instance().get("name")
        flush_loggers()
        context.callbacks.on_job_end(config=config, job_return=begun)
        hydra_config.hydra._set_parent(hydra_config)  # no longer below the run's config
        return begun


def subdir_of(config: DictConfig, number: int) -> str:
    """The `hydra.sweep.subdir` of the run with this ``config``."""
    with open_dict(config.hydra.job):
        config.hydra.job.id, config.hydra.job.num = "0", number
    with _hydra_config(config):
        return os.path.normpath(str(config.hydra.sweep.subdir))


@contextmanager
def _hydra_config(config: Any) -> Iterator[None]:
    """Let ``config`` be what Hydra takes for the one in use; then it is what it was, as is the working directory."""
    before, directory = HydraConfig.instance().cfg, Path.cwd()
    try:
        HydraConfig.instance().cfg = config
        yield
    finally:
        HydraConfig.instance().cfg = before
        os.chdir(directory)
