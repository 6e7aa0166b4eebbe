"""Read back what W&B wrote: a `.wandb` file is a LevelDB log of protobuf records."""

import json
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The records of ``path``, as far as they are whole.

    The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md after a
    header of 7 bytes, which counts as part of the first block.
    """
    content, at, message = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        left_in_block = BLOCK - at % BLOCK
        if left_in_block < HEADER:
            at += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        if kind == 0:
            return
        message += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def read(run_directory: Path) -> dict[str, Any]:
    """Ids, groups, config, history and exit codes of all segments of the W&B run in ``run_directory``.

    W&B's service writes the end of a file a moment after `finish` has returned: it is waited for.
    """
    paths = sorted(run_directory.glob("wandb/*run-*/*.wandb"))
    deadline = time.monotonic() + 20
    while True:
        run = _read(paths)
        if len(run["exits"]) == len(paths) or time.monotonic() > deadline:
            return run
        time.sleep(0.1)


def _read(paths: Sequence[Path]) -> dict[str, Any]:
    run: dict[str, Any] = {"ids": set(), "groups": set(), "config": {}, "history": [], "exits": []}
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
        elif kind == "exit":
            run["exits"].append(record.exit.exit_code)
    return run
