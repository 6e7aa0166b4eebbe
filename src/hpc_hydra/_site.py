"""From the facts about a site, in sbatch's own words, to configs of the launcher."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._launch.config import SlurmConf
from ._launch.gpus import ALL_RANKS, GPUS, RANKS, asks_for_gpus, with_gpus
from ._paths import absolute, interpolated, repository_of

# Where the launcher has a field of its own, `hydra.launcher.FIELD=` goes on working.
FIELDS = {
    "account": str, "comment": str, "constraint": str, "exclude": str, "gres": str,
    "partition": str, "qos": str, "mem_per_cpu": str, "mem_per_gpu": str, "name": str,
    "nodelist": str, "dependency": str, "mail_type": str, "mail_user": str,
    "cpus_per_gpu": int, "cpus_per_task": int, "gpus_per_node": int, "gpus_per_task": int,
    "nodes": int, "tasks_per_node": int,
}  # fmt: skip
NUMBER = r"[0-9]+|\$\{(?:hpc|hydra)\..*\}"  # or an interpolation that is one
ALIASES = {"ntasks_per_node": "tasks_per_node", "job_name": "name"}


@dataclass(frozen=True)
class Site:
    """What the jobs of a repository have in common on its cluster.

    Args:
        file: one of the repository's, in which relative paths lie.
        setup_commands: of the shell, at the start of a job. If the first line is such as
            ``#!/bin/bash -l``, it is that of the job script.
        python: what starts Python in a job. The folder of a virtual environment; or a command, which
            has a blank or ends in a file that begins with ``python``; or blank, for the ``python3``
            that the setup commands provide.
        environment: variables of the jobs, as far as whoever submits has none of that name.
    """

    file: str
    setup_commands: str = ""
    python: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """``path`` for a config: a relative one lies in the repository, and variables in it are those of
        whoever submits."""
        return absolute(path, repository_of(self.file))

    def slurm(
        self,
        *options: str,
        gpus: int | str | None = None,
        one_node: bool = False,
        pack: bool = False,
        rank_per_gpu: bool = False,
        debug: bool = False,
        **fields: Any,
    ) -> SlurmConf:
        """A launcher's config, from options of sbatch as on its command line but without the dashes.

        The later ones win, ``name=`` leaves a line out, ``srun:name=value`` is an option of srun,
        ``{n}`` is the number of GPUs, ``{10n}`` ten times as many. `hydra.launcher.gpus=` changes
        that number, and `hydra.launcher.tasks_per_node=` shares out what is for each task.

        Args:
            gpus: of each node, for ``{n}``; one unless told otherwise.
            one_node: whatever number of nodes the options name.
            pack: as many runs at a time as GPUs, on one node, with one GPU each.
            rank_per_gpu: a run has as many ranks on each node as GPUs, which share out the node's CPUs too.
            debug: on one node, for five minutes, or as the options ``debug:name=value`` say.
            fields: more of the launcher's fields.

        Raises:
            ValueError: a quotation that does not end, or no time limit of Slurm's.
        """
        text = with_gpus(interpolated(" ".join(options)))
        chosen, srun = parse_options(text), parse_options(text, "srun")
        if (one_node or pack or debug) and chosen.get("nodes"):
            chosen["nodes"] = "1"
        if debug:
            chosen["time"] = str(min(minutes(str(chosen.get("time") or 5)) or 5, 5))
            chosen |= parse_options(text, "debug")
            srun |= parse_options(text, "debug:srun")
        if "no-requeue" in chosen:
            chosen.pop("requeue", None)
        translated = launcher_fields(chosen)
        of_one_rank = translated.get("tasks_per_node", 1) == 1
        put_ranks(translated, srun, pack or rank_per_gpu)
        cpus = translated.get("cpus_per_task")
        if pack:
            translated["runs_per_job"] = GPUS
        elif rank_per_gpu and of_one_rank and isinstance(cpus, int):
            translated["cpus_per_task"] = f"${{hpc.share:{cpus},1,{RANKS}}}"
        if pack or rank_per_gpu or GPUS in str(translated) or GPUS in str(srun):
            translated["gpus"] = gpus or 1
        else:
            fields.pop("gpus_of_node", None)
        return SlurmConf(
            **translated,
            srun_args=srun_arguments(srun),
            python=self.python_command(),
            setup=self.setup_lines(gpus is not None or asks_for_gpus(translated)),
            **fields,
        )

    def gpu_type(self, gpus_of_node: int, options: str, instead_of: str) -> dict[str, Any]:
        """What ``options`` of sbatch for another type of GPU change in a launcher, as a config for a
        group with the package `hydra.launcher`.

        Args:
            instead_of: the request for the usual type, of which nothing is left.

        Raises:
            ValueError: an option of srun, or of debug jobs, for which there is no place in it.
        """
        if wrong := re.search(r"(?:^|\s)-*((?:srun|debug):\S+)", options):
            raise ValueError(f"{wrong[1]}: a type of GPU has options of sbatch only; leave it out")
        texts = (with_gpus(interpolated(text)) for text in (instead_of, options))
        usual, own = (launcher_fields(parse_options(text)) for text in texts)
        usual.pop("tasks_per_node", None)  # which packed runs have otherwise
        return {
            **dict.fromkeys(usual),
            **own,
            "additional_parameters": {
                **dict.fromkeys(usual["additional_parameters"]),
                **own["additional_parameters"],
            },
            "gpus_of_node": gpus_of_node,
        }

    def python_command(self) -> str:
        """What starts Python, for the shell of a job. Variables are those of whoever submits, and what
        begins with a dot, outside of quotes, lies in the repository."""
        if is_folder(self.python):
            return in_shell(f"{self.path(self.python)}/bin/python")

        def placed(word: re.Match[str]) -> str:
            return in_shell(self.path(word[1].removeprefix("./"))) if word[1] else word[0]

        quoted_or_relative = r"""'[^']*'|"[^"]*"|(?<!\S)(\.[\w.-]*/[\w./+-]+)(?!\S)"""
        return re.sub(quoted_or_relative, placed, interpolated(self.python or "python3"))

    def setup_lines(self, gpu_job: bool = False) -> list[str]:
        """The lines of a job script before srun: the site's commands, the venv, the environment.

        In the commands ``on_gpu COMMAND`` is for GPU jobs only, and ``on_cpu COMMAND`` for the others.
        """
        shebang, newline, rest = self.setup_commands.partition("\n")
        is_script = newline and shebang.startswith("#!")
        lines = [shebang, rest] if is_script else [self.setup_commands]
        if re.search(r"\bon_[gc]pu\b", self.setup_commands):
            mine, other = ("gpu", "cpu") if gpu_job else ("cpu", "gpu")
            lines.insert(-1, f'on_{mine}() {{ "$@"; }}; on_{other}() {{ :; }}')
        lines = [_without_interpolation(line) for line in lines if line]
        if is_folder(self.python):
            lines.append(f"source {in_shell(f'{self.path(self.python)}/bin/activate')}")
        return [
            *lines,
            # With printenv, since `set -u` of the site's commands makes an error of a variable that is not set.
            *(
                f'test -n "$(printenv {name})" || export {name}={shlex.quote(value)}'
                for name, value in self.environment.items()
            ),
            # Since Slurm 22.05 srun does not take its CPUs from the options of the batch script.
            'test -z "$(printenv SLURM_CPUS_PER_TASK)" || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
        ]


def parse_options(text: str, target: str = "") -> dict[str, str | bool]:
    """Split options as written on a command line without the dashes; name them as sbatch does.

    Words that name a target, ``srun:ntasks=1``, are its options and nobody else's.

    >>> parse_options('qos=normal constraint="a100&80gb" exclusive srun:ntasks=1')
    {'qos': 'normal', 'constraint': 'a100&80gb', 'exclusive': True}
    >>> parse_options("qos=normal srun:ntasks=1", "srun")
    {'ntasks': '1'}

    Raises:
        ValueError: a quotation that does not end.
    """
    options: dict[str, str | bool] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{error} in {text}") from None
    for word in words:
        option, equals, value = word.lstrip("-").partition("=")
        its_target, _, name = option.rpartition(":")
        # Others have underscores of sbatch's own, such as gpu_cmode.
        if ALIASES.get(name, name) in FIELDS:
            name = name.replace("_", "-")
        if its_target == target:
            options[name] = value if equals else True
    return options


def srun_arguments(options: Mapping[str, str | bool]) -> list[str]:
    """``options`` as srun takes them."""
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in options.items()
        if value
    ]


def put_ranks(fields: dict[str, Any], srun: dict[str, str | bool], for_each_gpu: bool) -> None:
    """Say in a launcher's ``fields`` and in the options of ``srun`` how many ranks a job has, if those
    are one ``for_each_gpu``, or the options say how many to one.

    A job script without a line for the ranks of a node stays without.
    """
    additional = fields["additional_parameters"]
    per_gpu = additional.get("ntasks_per_gpu")  # beside which sbatch refuses ntasks-per-node
    if not for_each_gpu and not per_gpu:
        return
    has_line = not per_gpu and fields.get("tasks_per_node", 1) is not None
    if per_gpu or srun.get("ntasks"):
        srun["ntasks"] = ALL_RANKS
    elif not has_line:
        additional["ntasks"] = ALL_RANKS
    if not has_line:
        additional["ntasks_per_node"] = None
    fields["tasks_per_node"] = f"${{hpc.times:{per_gpu},{GPUS}}}" if per_gpu else GPUS


def launcher_fields(options: Mapping[str, str | bool]) -> dict[str, Any]:
    """Name sbatch ``options`` as the launcher does.

    Those that it has no field for (or whose value does not fit: ``gpus-per-node=a100:4``) become
    additional parameters. A blank value is None, which leaves the line out of the job script.
    """
    fields: dict[str, Any] = {}
    additional: dict[str, Any] = {}
    for name, given in options.items():
        key, value = name.replace("-", "_"), given or None
        field = ALIASES.get(key, key)
        kind = FIELDS.get(field)
        if name == "time":
            fields["timeout_min"] = minutes(str(given))
        elif name == "mem" and (gigabytes := re.fullmatch(f"({NUMBER})GB?", str(value))):
            fields["mem_gb"] = number(gigabytes[1])
        elif name == "exclusive" or (kind and value is None):
            fields[field] = value
        elif kind is int and re.fullmatch(NUMBER, str(value)):
            fields[field] = number(str(value))
        elif kind is str and value is not True:
            fields[field] = value
        else:  # a job script has dashes for underscores, and one underscore for two
            additional[name.replace("_", "__").replace("-", "_")] = value
    if "ntasks" in additional:
        fields.setdefault("tasks_per_node", None)
    return {**fields, "additional_parameters": additional}


def number(text: str) -> int | str:
    """An interpolation stays what it is."""
    return int(text) if text.isdecimal() else text


def minutes(time: str) -> int:
    """Minutes of a time limit in any of Slurm's forms: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not match:
        raise ValueError(f"{time!r} is no time limit; Slurm's forms are 30, 30:00, 1:30:00, 1-12")
    days, *parts = (None if part is None else int(part) for part in match.groups())
    if days is None and parts[2] is None:  # M or M:S
        parts = [0, parts[0], parts[1]]
    hours, mins, seconds = (part or 0 for part in parts)
    return (days or 0) * 24 * 60 + hours * 60 + mins + (seconds > 0)


def _without_interpolation(commands: str) -> str:
    """The same commands without ``${``, which Hydra would take for an interpolation of its own, and
    which no number of backslashes protects, since it evaluates the list more than once."""
    if "${" not in commands:
        return commands
    return "eval " + shlex.quote(commands).replace("${", "$''{")


def is_folder(python: str) -> bool:
    """Whether that is a virtual environment's folder, and no command."""
    return bool(python) and not re.search(r"\s|(^|/)python[^/]*$", python)


def in_shell(path: str) -> str:
    """``path`` in quotes, in which the shell evaluates nothing; Hydra's interpolations stand for
    variables."""
    return '"' + re.sub(r'([\\"`]|\$(?!\{oc\.env:))', r"\\\1", path) + '"'
