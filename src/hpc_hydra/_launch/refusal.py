"""Why Slurm does not take a job, and what would help."""

from __future__ import annotations

import getpass
import re

from .._commands import answer


class Refused(Exception):
    """Slurm did not take a job; the text is sbatch's."""

    def explained(self, runs: int, qos: str | None) -> str:
        """The text, and what to do about it as far as Slurm tells.

        Args:
            runs: of the sweep.
            qos: of its jobs; None for the user's default one.
        """
        text = str(self)
        remedy = _remedy(text, runs, qos)
        return f"{text}\n{remedy}" if remedy else text


def _remedy(text: str, runs: int, qos: str | None) -> str:
    if re.search("Max.*Submit|job submit limit", text):
        limit = submit_limit(qos)
        per_job = max(-(-runs // limit) if limit else 10, 2)
        return (
            f"You may have {limit or 'only so many'} jobs at a time: put several runs into each, with "
            f"hydra.launcher.runs_per_job={per_job} for example"
        )
    found = {}
    if "partition" in text:
        found["the cluster's partitions"] = _ask("sinfo", "--noheader", "--format=%R")
    if "account" in text:
        found["your accounts"] = _sacctmgr("user", getpass.getuser(), "withassoc", "format=account")
    lists = {what: ", ".join(sorted(set(names))) for what, names in found.items() if names}
    return "; ".join(f"{what}: {names}" for what, names in lists.items())


def submit_limit(qos: str | None) -> int | None:
    """How many jobs the user may have at a time, elements of arrays counted, by the accounting: that of the
    association, and that of this QOS or the default one."""
    own = ("user", getpass.getuser(), "withassoc", "format=maxsubmitjobs,defaultqos")
    rows = [line.split("|") for line in _sacctmgr(*own)]
    limits = [row[0] for row in rows]
    for name in {qos} if qos else {row[1] for row in rows} - {""}:
        for limit in ("maxsubmitjobsperuser", "maxsubmitjobsperaccount"):
            limits += _sacctmgr("qos", str(name), f"format={limit}")
    return min((int(each) for each in limits if each.isdecimal()), default=None)


def _sacctmgr(*what: str) -> list[str]:
    return _ask("sacctmgr", "--noheader", "--parsable2", "--readonly", "show", *what)


def _ask(*command: str) -> list[str]:
    return (answer(*command) or "").split()
