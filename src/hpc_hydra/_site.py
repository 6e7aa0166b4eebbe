"""From the facts about a site, in sbatch's own words, to configs of the launcher."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ._launch.config import SlurmConf
from ._paths import absolute, interpolated, repository_of

# Where the launcher has a field of its own, `hydra.launcher.FIELD=` goes on working.
FIELDS = {
    "account": str, "comment": str, "constraint": str, "exclude": str, "gres": str,
    "partition": str, "qos": str, "mem_per_cpu": str, "mem_per_gpu": str, "name": str,
    "nodelist": str, "dependency": str, "mail_type": str, "mail_user": str,
    "cpus_per_gpu": int, "cpus_per_task": int, "gpus_per_node": int, "gpus_per_task": int,
    "nodes": int, "tasks_per_node": int,
}  # fmt: skip
ALIASES = {"ntasks_per_node": "tasks_per_node", "job_name": "name"}


@dataclass(frozen=True)
class Site:
    """What the jobs of a repository have in common on its cluster.

    Args:
        file: one of the repository's, in which relative paths lie.
        setup_commands: of the shell, at the start of a job. If the first line is such as
            ``#!/bin/bash -l``, it is that of the job script.
        venv_path: of the virtual environment; blank if the commands activate one.
        environment: variables of the jobs, as far as whoever submits has none of that name.
    """

    file: str
    setup_commands: str = ""
    venv_path: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """``path`` for a config: a relative one lies in the repository, and variables in it are those of
        whoever submits."""
        return absolute(path, repository_of(self.file))

    def slurm(
        self,
        *options: str,
        gpus: int = 0,
        pack: bool = False,
        debug: bool = False,
        **fields: Any,
    ) -> SlurmConf:
        """A launcher's config, from options of sbatch as on its command line but without the dashes.

        The later ones win, ``name=`` leaves a line out, ``srun:name=value`` is an option of srun,
        ``{n}`` is the number of GPUs, ``{10n}`` ten times as many.

        Args:
            gpus: of each node, for ``{n}``.
            pack: as many runs at a time as GPUs, with one GPU each.
            debug: with the options ``debug:name=value``.
            fields: more of the launcher's fields.

        Raises:
            ValueError: a quotation that does not end, or no time limit of Slurm's.
        """
        text = interpolated(" ".join(options))
        text = with_gpus(packed(text, gpus) if pack else text, gpus)
        chosen = parse_options(text) | (parse_options(text, "debug") if debug else {})
        if "no_requeue" in chosen:
            chosen.pop("requeue", None)
        return SlurmConf(
            **launcher_fields(chosen),
            srun_args=srun_arguments(text),
            runs_per_job=gpus if pack else 1,
            python=in_shell(f"{self.path(self.venv_path)}/bin/python") if self.venv_path else None,
            setup=self.setup_lines(),
            **fields,
        )

    def setup_lines(self) -> list[str]:
        """The lines of a job script before srun: the site's commands, the venv, the environment."""
        shebang, newline, rest = self.setup_commands.partition("\n")
        is_script = newline and shebang.startswith("#!")
        lines = [shebang, rest] if is_script else [self.setup_commands]
        lines = [_without_interpolation(line) for line in lines if line]
        if self.venv_path:
            lines.append(f"source {in_shell(f'{self.path(self.venv_path)}/bin/activate')}")
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
    """Split options as written on a command line without the dashes.

    Words that name a target, ``srun:ntasks=1``, are its options and nobody else's.

    >>> parse_options('qos=normal constraint="a100&80gb" exclusive srun:ntasks=1')
    {'qos': 'normal', 'constraint': 'a100&80gb', 'exclusive': True}
    >>> parse_options("qos=normal srun:ntasks=1", "srun")
    {'ntasks': '1'}

    Raises:
        ValueError: a quotation that does not end.
    """
    options: dict[str, str | bool] = {}
    for word in shlex.split(text):
        option, equals, value = word.lstrip("-").partition("=")
        its_target, _, name = option.rpartition(":")
        if its_target == target:
            options[name.replace("-", "_")] = value if equals else True
    return options


def srun_arguments(text: str) -> list[str]:
    """The options of ``text`` that are srun's, as it takes them."""
    arguments = []
    for name, value in parse_options(text, "srun").items():
        argument = f"--{name.replace('_', '-')}"
        arguments += [argument if value is True else f"{argument}={value}"] if value else []
    return arguments


def with_gpus(text: str, number: int) -> str:
    """``text`` with ``{n}`` as the number of GPUs, ``{10n}`` as ten times as many, and so on."""
    return re.sub(r"\{(\d*)n\}", lambda match: str(int(match[1] or 1) * number), text)


def packed(text: str, number: int) -> str:
    """``text`` for a job of ``number`` ranks with one GPU each, instead of one rank with all of them."""
    text = re.sub(r"\S*per[-_]task=\S+", lambda word: with_gpus(word[0], 1), text)
    for option in ("srun:ntasks", "ntasks"):
        if re.search(rf"(^|\s)-*{option}=", text):
            return f"{text} {option}={number}"
    return f"{text} ntasks-per-node={number}"


def launcher_fields(options: Mapping[str, str | bool]) -> dict[str, Any]:
    """Name sbatch ``options`` as the launcher does.

    Those that it has no field for (or whose value does not fit: ``gpus-per-node=a100:4``) become
    additional parameters. A blank value is None, which leaves the line out of the job script.
    """
    fields: dict[str, Any] = {}
    additional: dict[str, Any] = {}
    for name, value in options.items():
        if name == "time":
            fields["timeout_min"] = minutes(str(value))
            continue
        if name == "mem" and (gigabytes := re.fullmatch(r"(\d+)GB?", str(value))):
            fields["mem_gb"] = int(gigabytes[1])
            continue
        if name == "exclusive":
            fields[name] = value or None
            continue
        field = ALIASES.get(name, name)
        kind = FIELDS.get(field)
        if kind is int and value != "" and not re.fullmatch("[0-9]+", str(value)):
            kind = None
        if kind and value == "":
            fields[field] = None
        elif kind is None or value is True:
            additional[name] = value or None
        else:
            fields[field] = kind(value)
    if "ntasks" in additional:
        fields.setdefault("tasks_per_node", None)
    return {**fields, "additional_parameters": additional}


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


def in_shell(path: str) -> str:
    """``path`` in quotes, in which the shell evaluates nothing; Hydra's interpolations stand for
    variables."""
    return '"' + re.sub(r'([\\"`]|\$(?!\{oc\.env:))', r"\\\1", path) + '"'
