"""From sbatch's words to the launcher's fields and the lines of a job script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from .paths import absolute

# Where the launcher has a field of its own, `hydra.launcher.FIELD=` goes on working.
FIELDS = {
    "account": str, "comment": str, "constraint": str, "exclude": str, "gres": str,
    "partition": str, "qos": str, "mem_per_cpu": str, "mem_per_gpu": str, "name": str,
    "nodelist": str, "dependency": str, "mail_type": str, "mail_user": str,
    "cpus_per_gpu": int, "cpus_per_task": int, "gpus_per_node": int, "gpus_per_task": int,
    "nodes": int, "tasks_per_node": int,
}  # fmt: skip
ALIASES = {"ntasks_per_node": "tasks_per_node", "job_name": "name"}


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


def setup_lines(commands: str, venv: str, wandb_mode: str) -> list[str]:
    """The lines of a job script before srun: the site's commands, the venv, the environment.

    If the commands begin with a line such as ``#!/bin/bash -l``, so does the job script.
    """
    shebang, newline, rest = commands.partition("\n")
    lines = [shebang, rest] if newline and shebang.startswith("#!") else [commands]
    lines = [_without_interpolation(line) for line in lines if line]
    if venv:
        lines.append(f"source {_in_shell(f'{absolute(venv)}/bin/activate')}")
    return [
        *lines,
        # With printenv, since `set -u` of the site's commands makes an error of a variable that is not set.
        f'test -n "$(printenv WANDB_MODE)" || export WANDB_MODE={wandb_mode}',
        # Since Slurm 22.05 srun does not take its CPUs from the options of the batch script.
        'test -z "$(printenv SLURM_CPUS_PER_TASK)" || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
    ]


def python_of(venv: str) -> str | None:
    """The shell command that starts the Python of a virtual environment; None without one."""
    return _in_shell(f"{absolute(venv)}/bin/python") if venv else None


def _without_interpolation(commands: str) -> str:
    """The same commands without ``${``, which Hydra would take for an interpolation of its own, and
    which no number of backslashes protects, since it evaluates the list more than once."""
    if "${" not in commands:
        return commands
    return "eval " + shlex.quote(commands).replace("${", "$''{")


def _in_shell(path: str) -> str:
    """``path`` in quotes, in which the shell evaluates nothing; Hydra's interpolations stand for
    variables."""
    return '"' + re.sub(r'([\\"`]|\$(?!\{oc\.env:))', r"\\\1", path) + '"'
