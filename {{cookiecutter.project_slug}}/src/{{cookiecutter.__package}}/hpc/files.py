"""Files that are whole at every moment."""

import os
from pathlib import Path


def write_atomically(path: Path, data: str | bytes) -> None:
    """Replace ``path`` by ``data``; whoever reads it, and whenever the writer is killed, finds
    the old or the new content, never a part.

    Raises:
        OSError: the folder is missing, not writable or full. ``path`` is then as it was.
    """
    content = data.encode() if isinstance(data, str) else data
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
