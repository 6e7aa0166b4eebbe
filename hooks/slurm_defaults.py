"""From what Slurm's commands print to the defaults and prompts of the questions."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NamedTuple

# What sinfo prints in a line for alike nodes of a partition, and sacctmgr for each account of a user.
SINFO = "%P|%a|%l|%D|%c|%G"
SACCTMGR = "cluster,defaultaccount,account"
# No other names are believed: they could mean something to Jinja, to rich or to a shell.
NAME = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
SPECIAL = re.compile(r"debug|dev|test|interact|preempt|requeue|scaveng|spot|maint|viz", re.I)
MIG_SLICE = re.compile(r"\dg[._]?\d+gb|mig", re.I)
NAMED = 5
PRESET_MINUTES = {"gpu": 30, "cpu": 180}


class Nodes(NamedTuple):
    """Nodes of a partition that are alike."""

    number: int
    cpus: int
    gpus: dict[str, int]  # by type, which is blank where GPUs have none


class Partition(NamedTuple):
    name: str
    default: bool
    limit: str
    nodes: list[Nodes]

    def count(self, gpus: bool) -> int:
        """The nodes with GPUs, or those without."""
        return sum(nodes.number for nodes in self.nodes if bool(nodes.gpus) is gpus)

    def gpu(self) -> tuple[str, int]:
        """The usual type of GPU, a whole one if there is, and how many of it a node has; 0 for none."""
        kinds: Counter[tuple[str, int]] = Counter({("", 0): 0})
        types: Counter[str] = Counter()
        for nodes in self.nodes:
            for kind in nodes.gpus.items():
                kinds[kind] += nodes.number
                types[kind[0]] += nodes.number
        return max(
            kinds, key=lambda k: (k[1] > 0, not MIG_SLICE.search(k[0]), types[k[0]], kinds[k], k[1])
        )

    def described(self, unit: str) -> str:
        """For a list of partitions: ``a100 (default, 4 GPUs, 1 day)``."""
        cpus = max(self.nodes, key=lambda nodes: nodes.number).cpus
        limit = minutes(self.limit)
        size, name = (
            (1440, "day") if limit % 1440 == 0 else (60, "hour") if limit >= 60 else (1, "minute")
        )
        facts = [
            "default" if self.default else "",
            amount(self.gpu()[1] if unit == "GPU" else cpus, unit),
            amount(limit / size, name),
        ]
        return f"{self.name} ({', '.join(filter(None, facts))})".replace(" ()", "")


def amount(number: float, unit: str) -> str:
    number = round(number, 1)
    return f"{number:g} {unit}{'s' * (number != 1)}" if number else ""


def minutes(limit: str) -> int:
    """Of a time limit as sinfo prints it, such as ``1-00:00:00``; 0 where there is none."""
    match = re.fullmatch(r"(?:(\d{1,5})-)?(?:(\d{1,3}):)?(\d\d?):\d\d", limit)
    days, hours, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return (days * 24 + hours) * 60 + rest


def gpus(gres: str) -> dict[str, int]:
    """GPUs by type: ``{"a100": 4}`` of ``gpu:a100:4(S:0,2),nvme:1``, ``{"": 4}`` of ``gpu:4``."""
    found: dict[str, int] = {}
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *words = entry.strip().split(":")
        number = int(words.pop()) if words and re.fullmatch(r"\d{1,4}", words[-1]) else 1
        kind = words[0] if words else ""
        if name == "gpu" and number and (not kind or NAME.fullmatch(kind)):
            found[kind] = found.get(kind, 0) + number
    return found


def partitions(sinfo: str) -> list[Partition]:
    """Those that are up and have nodes; lines that are none of sinfo's are passed over."""
    found: dict[str, Partition] = {}
    for line in sinfo.splitlines():
        match = re.fullmatch(
            r"([^|*]+)(\*?)\|up\|([^|]*)\|([1-9]\d{0,6})\|(\d{1,6})\+?\|([^|]*)", line
        )
        if match and NAME.fullmatch(match[1]):
            name, star, limit, number, cpus, gres = match.groups()
            partition = found.setdefault(name, Partition(name, bool(star), limit, []))
            partition.nodes.append(Nodes(int(number), int(cpus), gpus(gres)))
    return list(found.values())


def for_gpus(among: list[Partition]) -> list[Partition]:
    """The partitions with GPUs, the best for GPU jobs first."""

    def rank(each: Partition) -> tuple[object, ...]:
        says_gpu = "gpu" in each.name.lower()
        return bool(SPECIAL.search(each.name)), not says_gpu, not each.default, -each.count(True)

    return sorted((each for each in among if each.count(True)), key=rank)


def for_cpus(among: list[Partition]) -> list[Partition]:
    """All partitions, the best for CPU jobs first."""

    def rank(each: Partition) -> tuple[object, ...]:
        name, nodes = each.name.lower(), (each.count(gpus=False), each.count(gpus=True))
        words = bool(SPECIAL.search(name)), "cpu" not in name, nodes[0] == 0, "gpu" in name
        return *words, not each.default, -nodes[0], -nodes[1]

    return sorted(among, key=rank)


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
    put_account(questions, accounts(sacctmgr, cluster), found)


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
    numbers, requests = {}, {}
    for each in ranked:
        kind, number = each.gpu()
        numbers[each.name] = str(number)
        requests[each.name] = f"gres=gpu:{kind}:{{n}}" if kind else "gres=gpu:{n}"
    for question, values in (("gpus_per_node", numbers), ("gpu_request", requests)):
        questions[question] = following("gpu_partition", values, values[ranked[0].name])
    types = {kind for each in ranked for nodes in each.nodes for kind in nodes.gpus if kind}
    if types:
        questions["__prompts__"]["gpu_request"] += f"; types {found}: {listed(sorted(types))}"


def put_account(questions: dict[str, Any], names: list[str], found: str) -> None:
    """The user's default account, if there is one."""
    if any(names):
        questions["account"] = names[0]
        listing = listed([name for name in names if name])
        questions["__prompts__"]["account"] += f"; a space for none; {found}: {listing}"
