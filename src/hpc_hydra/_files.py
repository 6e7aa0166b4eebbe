"""Files that are whole at every moment, that only one process works on, and that are nobody else's."""

import errno
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomically(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to be written, which replaces ``path`` at the end of the block; whoever reads that, and
    whenever the writer is killed, finds the old or the new content, never a part.

    Args:
        durable: also if the machine dies a moment later, which takes the disk some milliseconds; otherwise the
            file may be empty then.

    Raises:
        OSError: the folder is missing, not writable or full. ``path`` is then as it was.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: str | bytes, durable: bool = True) -> None:
    """Replace ``path`` by ``data``, like `atomically`."""
    with atomically(path, durable) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def locked(path: Path, patience_s: float = 0) -> Iterator[None]:
    """Hold a lock on ``path`` inside of the block. It ends with the process at the latest.

    A file system without locks is none to be waited for: then there is no protection.

    Raises:
        BlockingIOError: another process holds it, for longer than ``patience_s``.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    deadline = time.monotonic() + patience_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                    raise
            break
        yield
    finally:
        os.close(descriptor)


def tail(path: Path, size: int) -> str:
    """The last ``size`` bytes of a file, which may be larger than the memory; blank if it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - size, 0))
        return file.read(size).decode(errors="replace")
    return ""


def open_own(path: Path) -> BinaryIO:
    """Open a file that is to be unpickled, which can execute anything, for reading.

    Raises:
        PermissionError: it belongs to somebody else, wherever a link leads.
        OSError: it is not there, or cannot be read.
    """
    file = path.open("rb")
    if owner := foreign_owner(os.fstat(file.fileno())):
        file.close()
        raise PermissionError(
            f"{path} belongs to {owner} and is not read, since it could execute anything in your name. "
            "If you trust it, make a copy of your own with cp -r"
        )
    return file


def foreign_owner(status: os.stat_result) -> str | None:
    """Whose file it is, by name if there is one; None for the user of this process."""
    if status.st_uid == os.geteuid():
        return None
    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return f"user {status.st_uid}"


def writable_by_all(*paths: Path) -> list[Path]:
    """Of ``paths`` and the folders above them those in which everyone can replace what is not theirs."""
    places = [place for path in paths for place in (path, path.resolve())]
    folders = dict.fromkeys(folder for place in places for folder in (place, *place.parents))
    bits = stat.S_IWOTH | stat.S_ISVTX  # in a sticky folder such as /tmp others' files are safe
    return [folder for folder in folders if folder.stat().st_mode & bits == stat.S_IWOTH]
