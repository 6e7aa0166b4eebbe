"""From what Slurm's commands print to the defaults and prompts of the questions."""

from __future__ import annotations

import json
import re
from typing import Any

from slurm_nodes import NAME, SPECIAL, Partition, for_cpus, for_gpus, minutes, partitions

# What sacctmgr prints for each account of a user.
SACCTMGR = "cluster,defaultaccount,account"
NAMED = 5
TYPES = 12
# Rendered with the answers: what is misspelled in them, as far as Slurm has told.
WARNINGS = (
    "{%% for name, names in known.items() if names %%}"
    "{%% for answer in (cookiecutter.get(name) or '').split(',') | map('trim') %%}"
    "{%% if answer and '$' not in answer and answer not in names %%}"
    "\n{{ name }}: {{ answer }} is none of those %s: {{ names[:10] | join(', ') }}. If it is "
    "misspelled, correct it in cluster.py.\n"
    "{%% endif %%}{%% endfor %%}{%% endfor %%}"
)
PRESET_MINUTES = {"gpu": 30, "cpu": 180}


def accounts(sacctmgr: str, cluster: str) -> list[str]:
    """The user's accounts on this cluster, after the default one, which may be blank."""
    rows = [line.split("|") for line in sacctmgr.splitlines()]
    rows = [row for row in rows if len(row) == 3 and all(map(NAME.fullmatch, (row[0], row[2])))]
    clusters = {row[0] for row in rows}
    here = [row for row in rows if row[0] == cluster or (not cluster and len(clusters) == 1)]
    names = [row[2] for row in here]
    default = next((row[1] for row in here if row[1] in names), "")
    return list(dict.fromkeys([default, *names]))


def listed(names: list[str]) -> str:
    """The first ones, and the number of the others."""
    rest = len(names) - NAMED
    return ", ".join([*names[:NAMED], f"{rest} more"] if rest > 0 else names)


def following(question: str, values: dict[str, str], otherwise: str) -> str:
    """A default that follows the answer to an earlier question, as Jinja where it has to."""
    values = {answer: value for answer, value in values.items() if value != otherwise}
    if not values:
        return otherwise
    return f"{{{{ {json.dumps(values)}.get(cookiecutter.{question}, {json.dumps(otherwise)}) }}}}"


def improve(questions: dict[str, Any], sinfo: str, sacctmgr: str, config: str) -> None:
    """Put into cookiecutter's ``questions`` what the three commands printed, as far as they did."""
    match = re.search(r"^ClusterName\s*=\s*(\S+)\s*$", config, re.MULTILINE)
    cluster = match[1] if match and NAME.fullmatch(match[1]) else ""
    found = f"found on {cluster}" if cluster else "found here"
    every = partitions(sinfo)
    if every:
        put_partitions(questions, "gpu", for_gpus(every), found)
        put_partitions(questions, "cpu", for_cpus(every), found)
        put_gpus(questions, for_gpus(every), found)
    names = accounts(sacctmgr, cluster)
    put_account(questions, names, found)
    up = [partition.name for partition in every]
    known = {"gpu_partition": up, "cpu_partition": up, "account": list(filter(None, names))}
    if any(known.values()):
        questions["__warnings"] = "{% set known = " + json.dumps(known) + " %}" + WARNINGS % found


def put_partitions(
    questions: dict[str, Any], kind: str, ranked: list[Partition], found: str
) -> None:
    """The best partition; a time limit where a partition allows less than the preset asks for."""
    question = f"{kind}_partition"
    names = [partition.described(kind.upper()) for partition in ranked]
    questions["__prompts__"][question] += f"; {found}: {listed(names) or 'none'}"
    questions[question] = ranked[0].name if ranked else ""
    short = [each for each in ranked if 0 < minutes(each.limit) < PRESET_MINUTES[kind]]
    times = {each.name: f"time={each.limit}" for each in short}
    questions[f"{kind}_sbatch"] = following(question, times, "")


def put_gpus(questions: dict[str, Any], ranked: list[Partition], found: str) -> None:
    """How many GPUs a node has, and how they are asked for."""
    if not ranked:
        questions["gpus_per_node"] = "0"
        return
    questions["framework"] = "pytorch"
    numbers, requests = {}, {}
    for each in ranked:
        kind, number = each.gpu()
        numbers[each.name] = str(number)
        requests[each.name] = each.request(kind)
    for question, values in (("gpus_per_node", numbers), ("gpu_request", requests)):
        questions[question] = following("gpu_partition", values, values[ranked[0].name])
    questions["_gpu_types"] = other_types(ranked)
    types = {kind for each in ranked for nodes in each.nodes for kind in nodes.gpus if kind}
    if types:
        questions["__prompts__"]["gpu_request"] += f"; types {found}: {listed(sorted(types))}"


def other_types(ranked: list[Partition]) -> dict[str, tuple[int, str]]:
    """GPUs of a node and options of sbatch for each type of GPU; one without a name has its partition's."""
    found: dict[str, tuple[int, str]] = {}
    for each in ranked:
        usual, number = each.gpu()
        if usual or not SPECIAL.search(each.name):
            options = f"partition={each.name} {each.request(usual)}"
            found.setdefault(usual or each.name, (number, options))
        for kind in sorted({kind for nodes in each.nodes for kind in nodes.gpus if kind}):
            number = max(nodes.gpus.get(kind, 0) for nodes in each.nodes)
            options = f"partition={each.name} {each.request(kind)}"
            found.setdefault(kind, (number, options))
    # As +gpu=NAME takes it.
    named = [name for name in found if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)]
    return {name: found[name] for name in named[:TYPES]}


def put_account(questions: dict[str, Any], names: list[str], found: str) -> None:
    """The user's default account, if there is one."""
    if any(names):
        questions["account"] = names[0]
        listing = listed([name for name in names if name])
        questions["__prompts__"]["account"] += f"; a space for none; {found}: {listing}"
