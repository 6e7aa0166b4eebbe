"""What the supervisor of a run sees of it, beside what the kernel accounts for: the memory of all its processes
together, and its GPUs."""

from __future__ import annotations

import os
import re
import resource
import select
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import _records as records
from .._commands import children
from .._ranks import gpus_here
from .worker import say

LONGEST_S = 60.0  # between two looks
GPU_QUERY = (
    "nvidia-smi", "--query-gpu=uuid,index,memory.used,utilization.gpu,name",
    "--format=csv,noheader,nounits",
)  # fmt: skip


class Watch:
    """Of a process, at first each second, then more and more seldom."""

    def __init__(self) -> None:
        self._memory_mib = 0.0
        self._gpus: list[tuple[float, float]] = []  # what each had at a look: memory and percent
        self._models: set[str] = set()
        self._visible = gpus_here()

    def until_end_of(self, child: int) -> tuple[int, resource.struct_rusage]:
        """Wait for it; return what wait4(2) does, its status and its usage."""
        with suppress(AttributeError, OSError):  # an older Linux, or another system
            descriptor = os.pidfd_open(child)
            try:
                pause = 1.0
                while not select.select([descriptor], [], [], pause)[0]:
                    pause = min(pause * 1.5, LONGEST_S)
                    self._look(child)
            finally:
                os.close(descriptor)
        _, status, usage = os.wait4(child, 0)
        return status, usage

    def record(self, run: Path, job_id: str) -> None:
        """Add it to the last attempt in the record of the directory ``run``: ``memory_mib``, if the run had several
        processes; ``gpu``, the model, ``gpu_memory_mib``, the peak of one, and ``gpu_percent``, the mean."""
        seen: dict[str, Any] = {}
        if self._memory_mib:
            seen["memory_mib"] = round(self._memory_mib)
        if self._gpus:
            seen["gpu"] = ", ".join(sorted(self._models))
            seen["gpu_memory_mib"] = max(memory for memory, _ in self._gpus)
            seen["gpu_percent"] = round(sum(busy for _, busy in self._gpus) / len(self._gpus))
        if not seen:
            return
        try:
            record = records.read(run / records.RUN)
            if record.get("job_id") == job_id and record.get("attempts"):
                record["attempts"][-1] |= seen
                records.write(run / records.RUN, record)
        except (OSError, ValueError) as error:  # a full disk
            say(f"{run}: what it used is not recorded: {error}")

    def _look(self, process: int) -> None:
        family = list(_family(process))
        if len(family) > 1:
            self._memory_mib = max(self._memory_mib, sum(map(_memory_mib, family)))
        if self._visible:
            try:
                self._look_at_gpus()
            except (OSError, ValueError, subprocess.SubprocessError):
                self._visible = []  # nobody tells

    def _look_at_gpus(self) -> None:
        answer = subprocess.run(GPU_QUERY, capture_output=True, text=True, timeout=10, check=True)
        for line in answer.stdout.splitlines():
            uuid, index, memory, busy, model = (word.strip() for word in line.split(",", 4))
            if index in self._visible or any(uuid.startswith(each) for each in self._visible):
                self._gpus.append((float(memory), float(busy)))
                self._models.add(model)


def _family(process: int) -> Iterator[int]:
    """It, and what it has started."""
    yield process
    for child in children(process):
        yield from _family(child)


def _memory_mib(process: int) -> float:
    """Of what processes share each has its part."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        if found := re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE):
            return int(found[1]) / 1024
    return 0
