"""What the process of a run uses, as its supervisor sees it, and what its job asked for."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import _records as records

MIB = 1024**2
LONGEST_S = 60.0  # between two looks
GPU_QUERY = (
    "nvidia-smi", "--query-gpu=uuid,index,memory.used,utilization.gpu",
    "--format=csv,noheader,nounits",
)  # fmt: skip


class Usage:
    """Of a process and those that it starts: memory, CPU time, and GPUs where `nvidia-smi` answers."""

    def __init__(self, asked: Mapping[str, int]) -> None:
        self._asked = dict(asked)
        self._start, self._began = records.now(), time.monotonic()
        self._cpu_s = self._peak = 0.0
        self._gpus: dict[str, list[tuple[float, float]]] = {}  # memory and utilisation of each
        self._ask_gpus = bool(_visible_gpus())

    def watch(self, process: int) -> int:
        """Wait for the end of this child; return its status, as wait(2) does."""
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an older Linux
                descriptor = os.pidfd_open(process)
                try:
                    self._look_until_it_ends(process, descriptor)
                finally:
                    os.close(descriptor)
        _, status, used = os.wait4(process, 0)
        self._cpu_s = used.ru_utime + used.ru_stime
        # Of the largest process, in KiB: all of what the run's own has had, also between two looks.
        self._peak = max(self._peak, used.ru_maxrss * 1024)
        return status

    def _look_until_it_ends(self, process: int, descriptor: int) -> None:
        pause = 1.0
        while not select.select([descriptor], [], [], pause)[0]:
            pause = min(pause * 1.5, LONGEST_S)
            self._peak = max(self._peak, sum(map(_memory, _family(process))))
            if self._ask_gpus:
                self._look_at_gpus()

    def _look_at_gpus(self) -> None:
        try:
            answer = subprocess.run(
                GPU_QUERY, capture_output=True, text=True, timeout=10, check=True
            ).stdout
            visible = _visible_gpus()
            for line in answer.splitlines():
                uuid, index, *numbers = (word.strip() for word in line.split(","))
                if index in visible or any(uuid.startswith(each) for each in visible):
                    memory, busy = map(float, numbers)
                    self._gpus.setdefault(index, []).append((memory, busy))
        except (OSError, ValueError, subprocess.SubprocessError):
            self._ask_gpus = False

    def out_of_memory(self) -> str:
        """Why the kernel has killed it, in words that begin with Slurm's."""
        mem = self._asked.get("memory_mb")
        limit = f" of the {mem} MB that its job asked for" if mem else ""
        had = f"{self._peak / MIB:.0f} MB{limit} on this node"
        return f"OUT_OF_MEMORY: the kernel ended the run, which had {had}"

    def record(self) -> dict[str, Any]:
        """As an attempt in `run.json`: times in seconds, memory in MiB, which Slurm calls megabytes."""
        used: dict[str, Any] = {
            "start": self._start,
            "host": socket.gethostname(),
            "wall_s": round(time.monotonic() - self._began, 2),
            "cpu_s": round(self._cpu_s, 2),
            "peak_memory_mb": round(self._peak / MIB, 1),
            "asked": self._asked,
        }
        if looks := [look for each in self._gpus.values() for look in each]:
            used["peak_gpu_memory_mb"] = max(memory for memory, _ in looks)
            used["gpu_percent"] = round(sum(busy for _, busy in looks) / len(looks), 1)
        return used


def oom_kills() -> int:
    """How many processes of this one's control group the kernel has killed for want of memory, in version 1 or 2
    of control groups; 0 where it does not say."""
    root = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if "memory" in kinds.split(",") or not kinds:
                path = (
                    f"memory{group}/memory.oom_control" if kinds else f"{group[1:]}/memory.events"
                )
                with suppress(OSError):
                    if found := re.search(
                        r"^oom_kill (\d+)", (root / path).read_text(), re.MULTILINE
                    ):
                        return int(found[1])
    return 0


def add_attempt(run: Path, attempt: Mapping[str, Any]) -> None:
    """Add it to the record in the directory ``run``, if there is one.

    Raises:
        OSError: it cannot be written.
    """
    if record := records.read(run / records.RUN):
        attempts = [*record.get("attempts", []), dict(attempt)]
        records.write(run / records.RUN, {**record, "attempts": attempts})


def asked(environment: Mapping[str, str]) -> dict[str, int]:
    """What the job asked Slurm for: CPUs of a rank, and of a node the memory in MiB, GPUs and ranks."""
    found = {}
    for name, variable in (
        ("cpus_per_task", "SLURM_CPUS_PER_TASK"), ("memory_mb", "SLURM_MEM_PER_NODE"),
        ("memory_per_cpu_mb", "SLURM_MEM_PER_CPU"), ("gpus", "SLURM_GPUS_ON_NODE"),
        ("cpus", "SLURM_CPUS_ON_NODE"), ("tasks_per_node", "SLURM_TASKS_PER_NODE"),
    ):  # fmt: skip
        if number := re.match(r"\d+", environment.get(variable, "")):  # `2(x3),1`: the first node's
            found[name] = int(number[0])
    if per_cpu := found.pop("memory_per_cpu_mb", 0):
        found.setdefault("memory_mb", per_cpu * found.get("cpus", 1))
    return found


def _family(process: int) -> Iterator[int]:
    """It, and what it has started."""
    yield process
    with suppress(OSError):
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            for child in path.read_text().split():
                yield from _family(int(child))


def _memory(process: int) -> int:
    """In bytes; of what processes share each has its part."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        if found := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE):
            return int(found[1]) * 1024
    return 0


def _visible_gpus() -> list[str]:
    return [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
