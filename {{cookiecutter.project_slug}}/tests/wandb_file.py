"""All that W&B wrote for a run."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from {{ cookiecutter.__package }}.hpc.wandb_log import records, segments


def read(run_directory: Path, wait_s: float = 20) -> dict[str, Any]:
    """Ids, groups, config, history and exit codes of all segments of the W&B run in ``run_directory``.

    W&B's service writes the end of a file a moment after `finish` has returned: it is waited for.
    """
    deadline = time.monotonic() + wait_s
    while True:
        paths = segments(run_directory)
        run = _read(paths)
        if not paths or _exits(paths[-1]) or time.monotonic() > deadline:
            return run
        time.sleep(0.1)


def _exits(path: Path) -> list[int]:
    return [record.exit.exit_code for record in records(path) if record.HasField("exit")]


def _read(paths: Sequence[Path]) -> dict[str, Any]:
    run: dict[str, Any] = {
        "empty": sum(not list(records(path)) for path in paths), "ids": set(), "groups": set(), "config": {}, "history": [],
        "exits": [code for path in paths for code in _exits(path)],
    }  # fmt: skip
    for record in (record for path in paths for record in records(path)):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run["ids"].add(record.run.run_id)
            run["groups"].add(record.run.run_group)
            for item in record.run.config.update:
                run["config"][item.key] = json.loads(item.value_json)
        elif kind == "history":
            row = {"_step": record.history.step.num}
            for item in record.history.item:
                row[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            run["history"].append(row)
    return run
