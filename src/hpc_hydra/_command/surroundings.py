"""What jobs need around them: Slurm, room, identities, clocks. Each finding has its remedy."""

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

from .._commands import answer

GIB = 1024**3
FEW_FILES = 10_000
MISSING = ("sbatch", "srun", "squeue", "scontrol", "scancel")


@dataclass
class Finding:
    """``level``: ok; note, for which jobs run all the same; bad, with which none could."""

    level: str
    what: str
    remedy: str = ""


def slurm() -> Iterator[Finding]:
    """Its commands, its version, whether its controller answers and has the same time."""
    if missing := [name for name in MISSING if shutil.which(name) is None]:
        yield Finding("bad", f"not here: {', '.join(missing)}",
                      "type this on a login node of the cluster, or `module load slurm`; without a "
                      "cluster, use +setup=local")  # fmt: skip
        return
    version = (answer("sbatch", "--version") or "Slurm's version is not known").strip()
    config = answer("scontrol", "show", "config")
    if config is None or (answer("squeue", "--noheader", "--me") is None):
        yield Finding("bad", f"{version}: its controller does not answer",
                      "`scontrol ping` and `squeue` say more; try again later, or tell the site")  # fmt: skip
        return
    settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", config, re.MULTILINE))
    jobs = f"at most {settings.get('MaxArraySize')} jobs in an array, {settings.get('MaxJobCount')} in all"
    yield Finding("ok", f"{version}, {jobs}")
    if found := re.search(r"data as of (\S+)", config):
        apart = abs((datetime.now() - datetime.fromisoformat(found[1])).total_seconds())
        if apart > 60:
            yield Finding("note", f"the clock here and Slurm's are {apart:.0f} s apart",
                          "times in records and in squeue do not fit; tell the site")  # fmt: skip


def partitions() -> dict[str, dict[str, str]]:
    """What Slurm says of each, by name."""
    text = answer("scontrol", "show", "partition", "--oneliner") or ""
    rows = (dict(re.findall(r"(\w+)=(\S+)", line)) for line in text.splitlines())
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def room(folder: Path, whose: str) -> Iterator[Finding]:
    """Whether there is some in ``folder``, and a quota lets it be used."""
    free = shutil.disk_usage(folder).free
    files = os.statvfs(folder).f_favail
    try:
        began = time.time()
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".hpc-doctor-") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
            apart = abs(Path(file.name).stat().st_mtime - began)
    except OSError as error:
        remedy = (
            f"make room (`hpc clean`, `quota -s`, `du -sh {folder}/*`), or choose another place"
        )
        yield Finding("bad", f"{whose}, {folder}: {error.strerror}", remedy)
        return
    said = f"{whose}, {folder}: {free / GIB:.0f} GiB free"
    if free < GIB or 0 < files < FEW_FILES:
        yield Finding(
            "note", f"{said}, room for {files} files", "make room: `hpc clean`, `quota -s`"
        )
    else:
        yield Finding("ok", said)
    if apart > 60:
        yield Finding("note", f"the clock of {folder} and that of this machine are {apart:.0f} s apart",
                      "times of files mislead make and the like; tell the site")  # fmt: skip


def identities(folder: Path) -> Iterator[Finding]:
    """For Git and W&B; a run needs none."""
    git = ("git", "-C", str(folder))
    if shutil.which("git") is None:
        yield Finding("note", "git is not here", "records will lack commits: `module load git`")
    else:
        if answer(*git, "rev-parse", "--git-dir") is None:
            yield Finding("note", f"{folder} is in no git repository",
                          "records will lack commits, and jobs of a script a copy of the code: `git init`")  # fmt: skip
        if answer(*git, "config", "user.email") is None:
            yield Finding("note", "git does not know who you are",
                          "git config --global user.email you@example.org")  # fmt: skip
    if find_spec("wandb") is None:
        return
    mode = os.environ.get("WANDB_MODE", "as the app says")
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/").rpartition("/")[2]
    known, netrc = False, Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    with suppress(OSError):  # W&B itself will tell of it
        known = f"machine {host.partition(':')[0]}" in netrc.read_text(errors="replace")
    if known or "WANDB_API_KEY" in os.environ:
        yield Finding("ok", f"W&B: logged in at {host}, mode {mode}")
    else:
        yield Finding("note", f"W&B: not logged in at {host}, mode {mode}",
                      "`wandb login`; offline runs need none until `hpc sync`")  # fmt: skip
