"""What W&B wrote for a run, as `wandb sync` finds it: a `.wandb` file is a LevelDB log of protobuf records."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def read(directory: Path) -> dict[str, Any]:
    """Ids, groups, config, history and exit codes of all segments of the W&B run in ``directory``."""
    run: dict[str, Any] = {"ids": set(), "groups": set(), "config": {}, "history": [], "exits": []}
    for record in (record for path in segments(directory) for record in records(path)):
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


def steps(directory: Path) -> list[int]:
    """The steps that `wandb sync` would send, in its order."""
    return [row["_step"] for row in read(directory)["history"]]


def segments(directory: Path) -> list[Path]:
    """The files that `wandb sync` sends, the oldest first."""
    return sorted(directory.glob("wandb/offline-run-*/*.wandb"))


def records(path: Path) -> Iterator[Any]:
    """The records of ``path``, as far as they are whole.

    The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md after a
    header of 7 bytes, which counts as part of the first block.
    """
    from wandb.proto import wandb_internal_pb2

    protobuf: Any = wandb_internal_pb2
    content, at, message = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        left_in_block = BLOCK - at % BLOCK
        if left_in_block < HEADER:
            at += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        if kind == 0 or at + HEADER + length > len(content):
            return
        message += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = protobuf.Record()
            record.ParseFromString(message)
            yield record
            message = b""
