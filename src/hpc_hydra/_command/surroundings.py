"""What jobs need around them: Slurm, room, clocks, identities. Each finding has its remedy."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from .. import _squeue as squeue
from .._commands import answer

GIB = 1024**3
MISSING = ("sbatch", "srun", "squeue", "scontrol", "scancel")
APART_S = 60  # of clocks, after which they mislead
WANDB_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # W&B's own; in .netrc either will do


@dataclass
class Finding:
    """``level``: ok; note, for which jobs run all the same; bad, with which none could."""

    level: str
    what: str
    remedy: str = ""


def slurm() -> Iterator[Finding]:
    """Its commands, its version, whether its controller answers, and has the same time."""
    if missing := [name for name in MISSING if shutil.which(name) is None]:
        yield Finding("bad", f"not here: {', '.join(missing)}",
                      "type this on a login node of the cluster, or `module load slurm`; without a "
                      "cluster, use hydra/launcher=hpc_local, or +setup=local")  # fmt: skip
        return
    version = (answer("sbatch", "--version") or "Slurm's version is not known").strip()
    settings = squeue.settings()
    if not settings or answer("squeue", "--noheader", "--me") is None:
        yield Finding("bad", f"{version}: its controller does not answer",
                      "`scontrol ping` and `squeue` say more; try again later, or tell the site")  # fmt: skip
        return
    jobs = f"at most {settings.get('MaxArraySize')} jobs in an array, {settings.get('MaxJobCount')} in all"
    yield Finding("ok", f"{version}, {jobs}")
    if now := settings.get("data"):
        yield from _clock("Slurm", datetime.fromisoformat(now).timestamp())


def partitions() -> dict[str, dict[str, str]]:
    """What Slurm says of each, by name."""
    text = answer("scontrol", "show", "partition", "--oneliner") or ""
    rows = (dict(re.findall(r"(\w+)=(\S+)", line)) for line in text.splitlines())
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def room(folder: Path, whose: str) -> Iterator[Finding]:
    """Whether there is some in ``folder``, and a quota lets it be used."""
    free = shutil.disk_usage(folder).free
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".hpc-doctor-") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
            written = Path(file.name).stat().st_mtime
    except OSError as error:
        remedy = (
            f"make room (`hpc clean`, `quota -s`, `du -sh {folder}/*`), or choose another place"
        )
        yield Finding("bad", f"{whose}, {folder}: {error.strerror}", remedy)
        return
    said = f"{whose}, {folder}: {free / GIB:.0f} GiB free"
    if free < GIB:
        yield Finding("note", said, "make room: `hpc clean`, `quota -s`")
    else:
        yield Finding("ok", said)
    yield from _clock(str(folder), written)


def _clock(whose: str, now: float) -> Iterator[Finding]:
    if (apart := abs(now - time.time())) > APART_S:
        yield Finding("note", f"the clock here and that of {whose} are {apart:.0f} s apart",
                      "times in records, of files and in squeue mislead; tell the site")  # fmt: skip


def identities(folder: Path) -> Iterator[Finding]:
    """For Git and W&B; a run needs none."""
    if shutil.which("git") is None:
        yield Finding("note", "git is not here", "records will lack commits: `module load git`")
    elif answer("git", "-C", str(folder), "rev-parse", "--git-dir") is None:
        yield Finding("note", f"{folder} is in no git repository",
                      "records will lack commits, and jobs of a script a copy of the code: `git init`")  # fmt: skip
    elif answer("git", "-C", str(folder), "config", "user.email") is None:
        yield Finding("note", "git does not know who you are",
                      "git config --global user.email you@example.org")  # fmt: skip
    if find_spec("wandb") is None:
        return
    known, netrc = "", Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError):  # W&B itself will tell of it
        known = netrc.read_text(errors="replace")
    url = os.environ.get("WANDB_BASE_URL", "")
    hosts = [re.sub("[:/].*", "", url.partition("://")[2])] if url else WANDB_HOSTS
    if "WANDB_API_KEY" in os.environ or any(f"machine {host}" in known for host in hosts):
        yield Finding("ok", "W&B: logged in")
    else:
        yield Finding("note", f"W&B: not logged in at {hosts[0]}",
                      "`wandb login`; offline runs need none until `hpc sync`")  # fmt: skip
