"""What runs used of what their jobs asked for, and what would have done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

ROOM = 1.3  # what memory may need more the next time
GIB_MB = 1024


def used(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run: peaks over its attempts, CPUs on average, and what its last attempt asked for.

    Memory is in MiB, which Slurm calls megabytes; `asked_memory_mb` is the share of one task rank, as all of it.
    """
    attempts = record.get("attempts", [])
    asked = attempts[-1]["asked"] if attempts else {}
    ranks = asked.get("tasks_per_node", 1)
    cpus = asked.get("cpus_per_task") or asked.get("cpus", 0) // ranks
    wall_s = sum(each["wall_s"] for each in attempts)
    busy = [each["gpu_percent"] for each in attempts if "gpu_percent" in each]
    return {
        "peak_memory_mb": _most(attempts, "peak_memory_mb"),
        "asked_memory_mb": asked["memory_mb"] // ranks if "memory_mb" in asked else None,
        "cpus_used": round(sum(each["cpu_s"] for each in attempts) / wall_s, 2) if wall_s else None,
        "asked_cpus": cpus or None,
        "peak_gpu_memory_mb": _most(attempts, "peak_gpu_memory_mb"),
        "gpu_percent": round(sum(busy) / len(busy), 1) if busy else None,
        "asked_gpus": asked.get("gpus"),
    }


def advice(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each kind of job that asked for much more than the completed runs in it used, or for hardly enough."""
    kinds: dict[tuple[int, int, int], list[Mapping[str, Any]]] = {}
    for record in records:
        if record["state"] == "COMPLETED" and record.get("attempts"):
            asked = record["attempts"][-1]["asked"]
            each = used(record)
            if each["asked_memory_mb"] and each["asked_cpus"]:
                kind = (asked["memory_mb"], int(each["asked_cpus"]), asked.get("tasks_per_node", 1))
                kinds.setdefault(kind, []).append(each)
    lines = []
    for (memory_mb, cpus, ranks), runs in kinds.items():
        peak_gb = max(run["peak_memory_mb"] for run in runs) * ranks / GIB_MB
        busiest = max(run["cpus_used"] or 0 for run in runs)
        memory_gb = memory_mb / GIB_MB
        enough_gb, enough_cpus = math.ceil(peak_gb * ROOM), max(math.ceil(busiest - 0.1), 1)
        would_do = []
        if enough_gb < 0.75 * memory_gb or memory_gb < 1.05 * peak_gb:
            would_do.append(f"mem={enough_gb}G")
        if enough_cpus < cpus:
            would_do.append(f"cpus-per-task={enough_cpus}")
        if would_do:
            lines.append(
                f"asked {memory_gb:.3g} GB and {cpus} CPUs{' per task' if ranks > 1 else ''}, used at most "
                f"{peak_gb:.2g} GB and {busiest:.2g}: {' '.join(would_do)} would do"
            )
    return lines


def _most(attempts: Iterable[Mapping[str, Any]], name: str) -> float | None:
    return max((each[name] for each in attempts if name in each), default=None)
