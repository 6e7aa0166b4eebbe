"""What a run has used of memory and processors, and what its job asked for."""

from __future__ import annotations

import os
import re
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20

#: How many ranks with runs of their own share the node, each of which looks alone.
sharing = 1


def used(usage: resource.struct_rusage, wall_s: float) -> dict[str, float]:
    """By the kernel's account of a process and of those that it has waited for: ``cpu_s`` of all together, and
    the peak of one in ``max_rss_mib``; besides these ``wall_s``."""
    return {
        "wall_s": round(wall_s, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "max_rss_mib": round(usage.ru_maxrss * 1024 / MIB),
    }


def used_here(wall_s: float) -> dict[str, float]:
    """By this process and those that it has waited for."""
    own = used(resource.getrusage(resource.RUSAGE_SELF), wall_s)
    others = used(resource.getrusage(resource.RUSAGE_CHILDREN), wall_s)
    peak = max(own["max_rss_mib"], others["max_rss_mib"])
    return {**own, "cpu_s": round(own["cpu_s"] + others["cpu_s"], 1), "max_rss_mib": peak}


def asked() -> dict[str, int]:
    """On this node, by the Slurm job of this process: ``cpus``, ``mem_mib`` and ``gpus``, as far as it asked, and
    the ``tasks_per_node`` that share them, if there are several."""
    cpus = _number("SLURM_CPUS_ON_NODE")
    # Of the first node: the variable may be `2(x3),1`.
    ranks = max(_number("SLURM_TASKS_PER_NODE"), sharing)
    found = {
        "cpus": cpus,
        "mem_mib": _number("SLURM_MEM_PER_NODE") or _number("SLURM_MEM_PER_CPU") * (cpus or 1),
        "gpus": _number("SLURM_GPUS_ON_NODE"),
        "tasks_per_node": ranks if ranks > 1 else 0,
    }
    return {name: number for name, number in found.items() if number}


def _number(name: str) -> int:
    """That at the beginning of a variable; 0 if there is none, or it has a unit."""
    found = re.match(r"\d+\b", os.environ.get(name, ""))
    return int(found[0]) if found else 0


def oom_kills() -> int:
    """How many processes of this one's control group the kernel has killed for want of memory, in version 1 or 2
    of control groups; 0 where it does not say."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            path = f"memory{group}/memory.oom_control" if kinds else f".{group}/memory.events"
            if "memory" in kinds.split(",") or not kinds:
                with suppress(OSError):
                    text = (root / path).read_text()
                    if found := re.search(r"^oom_kill (\d+)", text, re.MULTILINE):
                        return int(found[1])
    return 0


def out_of_memory(usage: resource.struct_rusage) -> str:
    """Why the kernel has killed a process, in words that begin with Slurm's."""
    mem: Any = asked().get("mem_mib")
    limit = f" of the {mem} MiB that its job asked for" if mem else ""
    peak = used(usage, 0)["max_rss_mib"]
    return f"OUT_OF_MEMORY: the kernel ended the run, which had {peak:.0f} MiB{limit} on this node"
