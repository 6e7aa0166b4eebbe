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
    # Slurm explains each limit of the accounting by all that it could be, and names it on a line of its own.
    found = re.search(r"\b(QOS|Assoc)\w*Limit\b", text)
    limit_of = found[0] if found else "Submit" if "job submit limit" in text else ""
    if "Submit" in limit_of or "temporarily unable to accept job" in text:
        limit = submit_limit(qos)
        per_job = max(-(-runs // limit) if limit else 10, 2)
        return (
            f"You may have {limit or 'only so many'} jobs at a time: put several runs into each, with "
            f"hydra.launcher.runs_per_job={per_job} for example"
        )
    if limit_of and "Wall" not in limit_of:
        return (
            "ask for fewer nodes, CPUs or GPUs, or less memory; `sacctmgr show qos` has the limits"
        )
    lists = {}
    if "Wall" in limit_of or "time limit" in text:
        times = _ask("sinfo", "--noheader", "--format=%R=%l")
        lists["a shorter hydra.launcher.timeout_min; the limits of the partitions"] = times
    elif "artition" in text:
        up = _ask("sinfo", "--noheader", "--format=%R=%a")
        lists["the partitions that are up"] = [each[:-3] for each in up if each.endswith("=up")]
    if "Invalid account" in text:
        accounts = _of_user("account")
        lists["your accounts"] = accounts or ["none that Slurm knows of, ask the site"]
    if "qos spec" in text:
        lists["your QOS"] = ",".join(_of_user("qos")).split(",")
    given = {what: ", ".join(sorted(set(names))) for what, names in lists.items() if names}
    return "; ".join(f"{what}: {names}" for what, names in given.items())


def submit_limit(qos: str | None) -> int | None:
    """How many jobs the user may have at a time, elements of arrays counted, by the accounting: that of the
    association, and that of this QOS or the default one."""
    rows = [line.split("|") for line in _of_user("maxsubmitjobs,defaultqos")]
    limits = [row[0] for row in rows]
    for name in {qos} if qos else {row[1] for row in rows} - {""}:
        for limit in ("maxsubmitjobsperuser", "maxsubmitjobsperaccount", "grpsubmitjobs"):
            limits += _sacctmgr("qos", str(name), f"format={limit}")
    return min((int(each) for each in limits if each.isdecimal()), default=None)


def _of_user(columns: str) -> list[str]:
    return _sacctmgr("user", getpass.getuser(), "withassoc", f"format={columns}")


def _sacctmgr(*what: str) -> list[str]:
    return _ask("sacctmgr", "--noheader", "--parsable2", "--readonly", "show", *what)


def _ask(*command: str) -> list[str]:
    return (answer(*command) or "").split()
