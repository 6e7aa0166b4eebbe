"""Read back what W&B wrote: a `.wandb` file is a LevelDB log of protobuf records."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The records of ``path``, as far as they are whole.

    The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md after a
    header of 7 bytes, which counts as part of the first block.

    Raises:
        OSError: ``path`` cannot be read.
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
            try:
                record.ParseFromString(message)
            except Exception:  # protobuf's own; a part of it was written while the disk was full
                return
            yield record
            message = b""


def segments(directory: Path) -> list[Path]:
    """The files of the W&B run in ``directory``, the oldest first: each start of it adds one."""
    found = directory.glob("wandb/*run-*/*.wandb")  # of online and offline ones
    return sorted(found, key=lambda path: path.parent.name.partition("run-")[2])


def remove_empty(directory: Path) -> None:
    """Remove the segments into which W&B had written nothing when it was killed: `wandb sync` refuses to
    send any segment if one is like that.

    Raises:
        OSError: one of them cannot be read or removed.
    """
    for path in segments(directory):
        if path.stat().st_size < BLOCK and next(records(path), None) is None:
            path.unlink()


def steps(directory: Path) -> set[int]:
    """The steps that are in the files of the W&B run in ``directory``.

    Raises:
        OSError: one of them cannot be read.
    """
    every = (record for path in segments(directory) for record in records(path))
    return {record.history.step.num for record in every if record.HasField("history")}
