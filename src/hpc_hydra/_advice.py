"""What runs used of what their jobs asked for, and what would have done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

ROOM = 1.3  # what memory may need more the next time


def used(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run, for one task rank: peaks over its attempts, CPUs on average, and its share of what its last job
    asked for on a node. Memory is in MiB, which Slurm calls megabytes.
    """
    attempts = [each for each in record.get("attempts", []) if "max_rss_mib" in each]
    asked = record.get("asked", {})
    ranks = asked.get("tasks_per_node", 1)
    wall_s = sum(each["wall_s"] for each in attempts)
    peaks = [max(each["max_rss_mib"], each.get("memory_mib", 0)) for each in attempts]
    busy = [each["gpu_percent"] for each in attempts if "gpu_percent" in each]
    gpu_peaks = [each["gpu_memory_mib"] for each in attempts if "gpu_memory_mib" in each]
    return {
        "used_memory_mib": max(peaks, default=None),
        "asked_memory_mib": asked["mem_mib"] // ranks if "mem_mib" in asked else None,
        "used_cpus": round(sum(each["cpu_s"] for each in attempts) / wall_s, 2) if wall_s else None,
        "asked_cpus": asked["cpus"] // ranks if "cpus" in asked else None,
        "used_gpu_memory_mib": max(gpu_peaks, default=None),
        "gpu_percent": round(sum(busy) / len(busy)) if busy else None,
        # A rank has one of its own at least, or a part of one.
        "asked_gpus": max(asked["gpus"] // ranks, 1) if "gpus" in asked else None,
    }


def advice(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each kind of job that asked for much more than the completed runs in it used, or for hardly enough."""
    kinds: dict[tuple[int, int, int], list[Mapping[str, Any]]] = {}
    for record in records:
        each, asked = used(record), record.get("asked", {})
        known = each["used_memory_mib"] and each["asked_memory_mib"] and each["asked_cpus"]
        if record["state"] == "COMPLETED" and known:
            kind = (asked["mem_mib"], each["asked_cpus"], asked.get("tasks_per_node", 1))
            kinds.setdefault(kind, []).append(each)
    lines = []
    for (mem_mib, cpus, ranks), runs in kinds.items():
        peak_mib = max(run["used_memory_mib"] for run in runs) * ranks
        busiest = max(run["used_cpus"] or 0 for run in runs)
        enough_gb, enough_cpus = math.ceil(peak_mib * ROOM / 1024), max(math.ceil(busiest - 0.1), 1)
        would_do = []
        if enough_gb * 1024 < 0.75 * mem_mib or mem_mib < 1.05 * peak_mib:
            would_do.append(f"mem={enough_gb}G")
        if enough_cpus < cpus:
            would_do.append(f"cpus-per-task={enough_cpus}")
        if would_do:
            lines.append(
                f"asked {_size(mem_mib)} and {cpus} CPU{'s' * (cpus > 1)}{' per task' * (ranks > 1)}, used at most "
                f"{_size(peak_mib)} and {busiest:.3g}: {' '.join(would_do)} would do"
            )
    return lines


def _size(mib: float) -> str:
    """In the unit that a reader would choose."""
    if mib < 1000:
        return f"{mib:.0f} MB"
    return f"{mib / 1024:.{0 if mib >= 10240 or mib % 1024 == 0 else 1}f} GB"
