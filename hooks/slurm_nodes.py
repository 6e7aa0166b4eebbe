"""Partitions and their nodes, as sinfo prints them."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

# What sinfo prints in a line for alike nodes of a partition.
SINFO = "%P|%a|%l|%D|%c|%m|%G"
# No other names are believed: they could mean something to Jinja, to rich or to a shell.
NAME = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
SPECIAL = re.compile(r"debug|dev|test|interact|preempt|requeue|scaveng|spot|maint|viz", re.I)
MIG_SLICE = re.compile(r"\dg[._]?\d+gb|mig", re.I)


class Nodes(NamedTuple):
    """Nodes of a partition that are alike."""

    number: int
    cpus: int
    memory: int  # in MB, as much as can be asked for
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

    def request(self, kind: str) -> str:
        """How GPUs of a type are asked for: with as many CPUs and as much memory as all GPUs of the
        smallest node can have; nodes with other types beside it count where there are no others."""
        having = [nodes for nodes in self.nodes if kind in nodes.gpus]
        alone = [nodes for nodes in having if len(nodes.gpus) == 1]
        alike = [(nodes, sum(nodes.gpus.values())) for nodes in alone or having]
        cpus = min(nodes.cpus // number for nodes, number in alike)
        gigabytes = min(nodes.memory // number // 1024 for nodes, number in alike)
        request = [f"gres=gpu:{kind}:{{n}}" if kind else "gres=gpu:{n}"]
        request += [f"cpus-per-task={{{cpus}n}}"] * (cpus > 0)
        request += [f"mem={{{gigabytes}n}}G"] * (gigabytes > 0)
        return " ".join(request).replace("{1n}", "{n}")

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
            r"([^|*]+)(\*?)\|up\|([^|]*)\|([1-9]\d{0,6})\|(\d{1,6})\+?\|(\d{1,9})\+?\|([^|]*)",
            line,
        )
        if match and NAME.fullmatch(match[1]):
            name, star, limit, number, cpus, memory, gres = match.groups()
            partition = found.setdefault(name, Partition(name, bool(star), limit, []))
            partition.nodes.append(Nodes(int(number), int(cpus), int(memory), gpus(gres)))
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
