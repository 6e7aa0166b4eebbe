"""Files that are whole at every moment, and that only one process works on."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def locked(path: Path, shared: bool = False) -> Iterator[int]:
    """Hold a lock on ``path`` inside of the block; yields its descriptor, which `fcntl.flock` can
    turn into the other kind. It ends with the process at the latest.

    A file system without locks is none to be waited for: then there is no protection.

    Raises:
        BlockingIOError: another process holds it. A shared lock waits for an exclusive one.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
        yield descriptor
    finally:
        os.close(descriptor)
