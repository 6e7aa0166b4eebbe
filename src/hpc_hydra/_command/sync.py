"""`hpc sync`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _records as records
from .. import _squeue as squeue
from .sweeps import SWEEP, all_named, fail

AT_A_TIME = 10  # runs, which `wandb sync` sends side by side
RUN_TIMEOUT_S = 300
SET_ASIDE = "wandb/incomplete"


def sync(sweeps: Annotated[list[str] | None, SWEEP] = None) -> None:
    """Send W&B what was written offline.

    What is not sent yet, of runs that are over. It can be repeated: what is sent is not sent again. What a kill kept from W&B's files is in
    metrics.jsonl, and is sent too. Exit code 1 if something is left to send.

    \b
    hpc sync                     your newest sweep
    hpc sync fig1 fig2
    """
    if find_spec("wandb") is None:
        fail("W&B is not installed here: pip install 'hpc-hydra[wandb]'", 1)
    todo, skipped, jobs = [], 0, cache(squeue.jobs)
    for sweep in all_named(sweeps):
        for run in records.states(sweep, jobs):
            folder = records.folder_of(sweep, run["number"])
            there = any(folder.glob("wandb/offline-run-*"))
            if not _unsent(folder) and (there or not (folder / SET_ASIDE).exists()):
                continue
            if run["state"] in (*records.UNDER_WAY, "STOPPED"):
                skipped += 1
            else:
                todo.append((f"{sweep} run {run['number']}", folder))
    failed: list[str] = []
    if todo:
        _reach()
        os.environ["WANDB_SILENT"] = "true"  # about the files that it writes again
    for first in range(0, len(todo), AT_A_TIME):
        batch = todo[first : first + AT_A_TIME]
        reasons = _send_runs(batch)
        failed += [f"{name}: {why}" for name, why in reasons.items()]
        done = first + len(batch)
        said = f"{done - len(failed)} sent, {len(failed)} failed"
        print(f"{done} of {len(todo)} runs: {said}", flush=True)
        if any("API key" in reason for reason in reasons.values()):
            fail("W&B does not know you here: wandb login", 1)
    if skipped:
        print(f"{skipped} runs are not over and were left: repeat this later")
    if not todo:
        print("Nothing to send.")
    for line in failed:
        print(line, file=sys.stderr)
    raise typer.Exit(int(bool(failed)))


def _unsent(directory: Path) -> list[Path]:
    """The segments of the run in ``directory`` that `wandb sync` has not sent yet, the oldest first."""
    segments = sorted(directory.glob("wandb/offline-run-*"))
    return [each for each in segments if not any(each.glob("*.synced"))]


def _to_send(directory: Path) -> list[Path]:
    """What of the run in ``directory`` is `_unsent`. If one of them was not written to its end, since W&B or the run
    was killed, or if all were set aside, they are set aside, and one is made from `metrics.jsonl` in their place, where
    the run's config is known."""
    from .._tracking import STATE

    whole, unsent = [], _unsent(directory)
    with suppress(OSError, ValueError, KeyError):
        whole = json.loads((directory / "wandb" / STATE).read_text())["segments"]
    configs = [directory / ".hydra" / f"{name}.yaml" for name in ("hydra", "config")]
    incomplete = not unsent or any(each.name not in whole for each in unsent)
    if incomplete and all(map(Path.exists, configs)):
        _write_again(directory, configs)
    return _unsent(directory)


def _write_again(directory: Path, configs: list[Path]) -> None:
    from omegaconf import OmegaConf

    from .._hydra import resolve_with
    from .._tracking import TrackedRun, WandbCallback

    config: Any = OmegaConf.unsafe_merge(*map(OmegaConf.load, configs))
    resolve_with(config)  # the task's config may refer to Hydra's
    for each in (config.hydra.get("callbacks") or {}).values():
        if re.fullmatch(r"hpc_hydra\.(_tracking\.)?WandbCallback", each.get("_target_", "")):
            options = WandbCallback(each.project).options(config)
            TrackedRun(directory, "offline", options).close(1)


def _reach() -> None:
    """End the command if W&B's server cannot be reached: its client would go on trying for hours."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    import wandb

    server = str(wandb.setup().settings.base_url)
    wandb.teardown()
    try:
        urlopen(server, timeout=20).close()
    except HTTPError:  # it has answered
        return
    except (OSError, ValueError) as error:
        fail(
            f"{server} cannot be reached from here: {error}. Type this on a login node that has a network.",
            1,
        )


def _send_runs(runs: Sequence[tuple[str, Path]]) -> dict[str, str]:
    """Why, of ``runs``, names and directories, some were not sent."""
    failed: dict[str, str] = {}
    segments: list[Path] = []
    for name, folder in runs:
        try:
            if not (own := _to_send(folder)):
                failed[name] = f"W&B wrote nothing in place of what is in {folder / SET_ASIDE}"
            segments += own
        except Exception as error:  # a config that cannot be read any more; a full disk
            failed[name] = f"{type(error).__name__}: {error}"
    lines = _wandb_sync(segments, len(runs))
    for name, folder in runs:
        for each in _unsent(folder):
            failed.setdefault(name, _reason(each, lines))
    return failed


def _wandb_sync(segments: Sequence[Path], runs: int) -> list[str]:
    """The lines that W&B's client prints as it sends ``segments``."""
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, segments)]
    own = ("WANDB_MODE", "WANDB_DIR", "WANDB_SILENT")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    # It is run where W&B's own settings of a folder, such as `wandb offline`, are not found.
    # There it leaves its logs, too.
    with tempfile.TemporaryDirectory() as place:
        try:
            ended = subprocess.run(
                command, cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=RUN_TIMEOUT_S * runs,
            )  # fmt: skip
            output = ended.stdout + ended.stderr
        except subprocess.TimeoutExpired:
            output = f"not sent within {RUN_TIMEOUT_S * runs} s"
    said = [line for line in output.splitlines() if line.strip()]
    return [re.sub("^(wandb: |Error: )+", "", line) for line in said]


def _reason(segment: Path, lines: Sequence[str]) -> str:
    identity = segment.name.rpartition("-")[2]
    about = [line for line in lines if identity in line and "ERROR" in line]
    return (about or [*lines[-1:]] or ["wandb sync does not say why"])[-1].strip()
